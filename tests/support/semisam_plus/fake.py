"""A promptable stand-in for a SAM, and a specialist that knows the truth, for the tests of SemiSAM+."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.sam.build import SamModel
from common.sam.members.family import FAMILY
from support.bundle.path import import_bundle
from support.bundle.run import FakeSam


class FakePromptEncoder(nn.Module):
    """Hands the first position of each prompt on as a box (x, y, x, y) in pixels; a point is a box of 12 pixels."""

    mask_input_size = (16, 16)

    def forward(self, points, boxes, masks) -> tuple[Tensor, Tensor]:
        if boxes is None and points is None:  # a mask alone, beside tokens
            return torch.zeros(len(masks), 0, 256), torch.zeros(len(masks), 256, 4, 4)
        if boxes is None:
            centre = points[0][:, 0]
            boxes = torch.cat([centre - 6, centre + 6], -1)
        return boxes.reshape(-1, 1, 4), torch.zeros(len(boxes), 256, 4, 4)

    def get_dense_pe(self) -> Tensor:
        return torch.zeros(1, 256, 4, 4)


class FakeMaskDecoder(nn.Module):
    """Fills the box that it is given; learnt tokens are one, and get a gradient of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, image, position, sparse: Tensor, dense: Tensor, multimask_output: bool) -> tuple[Tensor, None]:
        y, x = torch.meshgrid(*[torch.arange(64) + 0.0] * 2, indexing="ij")
        left, top, right, bottom = (side[:, None, None] for side in sparse[:, 0, :4].T)
        inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        return (self.weight * (inside.float() * 12 - 6) + 0 * sparse.mean((1, 2))[:, None, None])[:, None], None


class FakePromptedSam(FakeSam):
    """A frozen SAM that fills boxes."""

    def __init__(self, name: str = "mobile_sam") -> None:
        super().__init__()
        self.name, self.prompts = name, FAMILY[name].prompts
        self.prompt_encoder, self.mask_decoder = FakePromptEncoder(), FakeMaskDecoder()
        self.requires_grad_(False)

    decode = SamModel.decode


def use_fake_sams(patch: Any, folder: Path) -> dict[str, FakePromptedSam]:
    """Let the bundle build FakePromptedSams, and return them by name as they are built."""
    module = import_bundle("semisam_plus", "generalists.slice_generalist")
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "fake_sam.pt"
    weights.write_bytes(b"fake")
    built: dict[str, FakePromptedSam] = {}

    def build(name, checkpoint=None, image_size=None):
        return built.setdefault(name, FakePromptedSam(name))

    patch.setattr(module, "build_sam", build)
    patch.setattr(module, "find_weights", lambda name, checkpoint=None: weights)
    return built


class Knowing(nn.Module):
    """A specialist that takes an image for its label: class 1 above 0.5; it counts how often it is asked."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(12.0))
        self.classes, self.asked = classes, 0

    def forward(self, image: Tensor) -> Tensor:
        self.asked += 1
        inside = self.sharpness * (image - 0.5)
        others = torch.full_like(image, -20).expand(-1, self.classes - 2, -1, -1, -1)
        return torch.cat([-inside, inside, others], 1)


def cubes(count: int, size: tuple[int, int, int] = (16, 16, 16)) -> list[dict]:
    """Return items {"case", "image" [1, H, W, D]} of a bright cube at places of its own."""
    items = []
    for number in range(count):
        image = torch.full((1, *size), 0.1)
        start = 3 + number % 3
        image[:, start : start + 8, 4:12, start : start + 7] = 0.9 - 0.01 * number
        items.append({"case": f"case_{number}", "image": image})
    return items
