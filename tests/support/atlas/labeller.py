"""An atlas, volumes that are the atlas moved, and a labeller of them."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from common.atlas.labeller import AtlasLabeller
from common.grid.grid import Grid
from common.registration.fields import integrate, voxel_grid, warp
from common.registration.similarity import foreground_dice_loss
from common.serving.inferers import AffineTTAInferer

SIZE = (24, 24, 16)


ATLAS = "case_2"


def phantom() -> tuple[torch.Tensor, torch.Tensor]:
    grid = [(axis - (n - 1) / 2) / n for axis, n in zip(voxel_grid(SIZE)[0], SIZE, strict=True)]
    body = sum((c / r) ** 2 for c, r in zip(grid, (0.3, 0.25, 0.3), strict=True)) < 1
    core = sum(((c - s) / 0.13) ** 2 for c, s in zip(grid, (0.08, 0, 0), strict=True)) < 1
    label = F.one_hot(body.long() + core.long(), 3).permute(3, 0, 1, 2).float()
    return (0.2 + 0.3 * body + 0.3 * core)[None], label


class Images:
    """Five deformed copies of a phantom; it counts how often each is read, as a cache would serve it."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        image, label = phantom()
        self.items, self.truth = [], {}
        for index in range(5):
            coarse = 2.0 * torch.randn(1, 3, 3, 3, 3, generator=generator) * (index != 2)
            ddf = integrate(F.interpolate(coarse, size=SIZE, mode="trilinear", align_corners=True), SIZE)
            warped = warp(torch.cat([image, label])[None], ddf)[0]
            noise = 0.02 * torch.randn(warped[:1].shape, generator=generator)
            self.items.append({"case": f"case_{index}", "image": (warped[:1] + noise).clamp(0, 1)})
            self.truth[f"case_{index}"] = warped[1:]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        return self.items[index]


class Network(nn.Module):
    """Stands for the network: it knows the intensities, and is better than the registration."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, image):
        self.calls += 1
        assert not self.dropout.training  # predictions are made in evaluation mode
        return -100 * torch.cat([(image - level).square() for level in (0.2, 0.5, 0.8)], dim=1)


def make(images, folder, atlases=(ATLAS,), **changes):
    """Return a labeller of these atlases; what it opens is noted."""
    opened = []

    def label_transform(data):
        opened.append(data["label"])
        return {"label": images.truth[data["label"].split("/")[-1].split(".")[0]]}

    cohort = SimpleNamespace(
        images=[{"case": item["case"], "image": f"/{item['case']}.nii.gz"} for item in images.items],
        labels={0: "background", 1: "body", 2: "core"},
        grid=Grid(SIZE, (1, 1, 1), (0, 1, 2)),
        choose_atlases=lambda images, folder, *settings: [
            {"case": case, "image": f"/{case}.nii.gz", "label": f"/labels/{case}.nii.gz"} for case in atlases
        ],
    )
    settings = {
        "registration": None,
        "instance_steps": 15,
        "bridges": 0,
        "keep": 0.5,
        "keep_least": 0,
        "refine_intensity": 0.0,
        "force": True,
        **changes,
    }
    labeller = AtlasLabeller(
        cohort, images, label_transform, Network(), inferer=AffineTTAInferer(amp=False), folder=str(folder), **settings
    )
    labeller.opened, labeller.root = opened, folder
    return labeller


def dice(pred, target):
    return 1 - float(foreground_dice_loss(pred[None], target[None]))
