"""Stand-ins for WeakMedSAM's tests: a backbone of one convolution, a cohort and labels of two small ellipsoids."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from common.grid.field_of_view import inside_scan
from common.grid.grid import Grid
from common.sam.members.preprocessing import Preprocessing
from support.bundle.path import import_bundle

SIZE = (16, 12, 10)
SPACING = (2.0, 2.0, 3.0)
LABELS = {0: "background", 1: "front", 4: "back"}


class FakeBackbone(nn.Module):
    """Stands for a `SliceBackbone`: 32 channels on a 4 x 4 grid of tokens, a neck of one convolution to 16.

    `decode_points` and `decode_boxes` answer with a blob at each prompt. Counts the slices it was given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name, self.takes_points, self.preprocessing = "mobile_sam", True, Preprocessing(64)
        self.stem, self.neck = nn.Conv2d(3, 32, 16, stride=16), nn.Sequential(nn.Conv2d(32, 16, 1))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        self.slices = 0
        self.requires_grad_(False).eval()

    @property
    def image_encoder(self) -> nn.Module:
        return SimpleEncoder(self)

    @property
    def feature_channels(self) -> int:
        return 32

    @property
    def image_size(self) -> int:
        return 64

    def features(self, x: Tensor) -> Tensor:
        self.slices += len(x)
        return self.stem(x)

    def embed(self, features: Tensor) -> Tensor:
        return self.neck(features)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return features, self.embed(features)

    def tune(self, mode: bool = True) -> FakeBackbone:
        self.stem.requires_grad_(mode)
        return self

    def decode_points(self, embedding: Tensor, points: Tensor) -> Tensor:
        return self._blobs(points)

    def decode_boxes(self, embedding: Tensor, boxes: Tensor) -> Tensor:
        return self._blobs((boxes[..., :2] + boxes[..., 2:]) / 2)

    def _blobs(self, centres: Tensor) -> Tensor:
        place = torch.arange(16) * 4 + 2.0
        x, y = centres[..., 0, None, None] - place, centres[..., 1, None, None] - place[:, None]
        return 3 - (x**2 + y**2) / 100


class SimpleEncoder(nn.Module):
    """The image encoder of a FakeBackbone: slices -> embedding; its `neck` tells the channels."""

    def __init__(self, backbone: FakeBackbone) -> None:
        super().__init__()
        self.neck, self._encode = backbone.neck, backbone.encode

    def forward(self, x: Tensor) -> Tensor:
        return self._encode(x)[1]


def use_fake_backbone(patch: Any, folder: Path, module: Any = None) -> FakeBackbone:
    """Let `SliceFeatures` (of the bundle, or of a module) build a FakeBackbone, whose weights are said to be a file in
    `folder`.
    """
    features, backbone = module or import_bundle("weakmedsam", "common.sam.features.slice_features"), FakeBackbone()
    weights = folder / "fake_sam.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(b"fake")
    patch.setattr(features, "build_backbone", lambda name, checkpoint, image_size, pretrained: backbone)
    patch.setattr(features, "find_weights", lambda name, checkpoint=None: weights)
    return backbone


def structures() -> Tensor:
    """Return class numbers [H, W, D]: 1 in slices 2 to 5, 2 in slices 4 to 8."""
    h, w, d = torch.meshgrid(*[torch.arange(n) for n in SIZE], indexing="ij")
    found = torch.zeros(SIZE, dtype=torch.long)
    found[((h - 5) ** 2 + (w - 4) ** 2 < 9) & (d >= 2) & (d <= 5)] = 1
    found[((h - 11) ** 2 + (w - 8) ** 2 < 8) & (d >= 4) & (d <= 8)] = 2
    return found


def grid_image(seed: int = 0) -> MetaTensor:
    """Return an image [1, H, W, D] in which the structures are bright, as it comes from a file of the same grid."""
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    noise = 0.05 * torch.rand(SIZE, generator=torch.Generator().manual_seed(seed))
    image = (0.3 * structures() + noise).clamp(0, 1)[None]
    return MetaTensor(image, affine=affine, meta={"original_affine": affine.numpy(), "spatial_shape": np.array(SIZE)})


def presence() -> Tensor:
    """Return the presence volume [2, H, W, D] of the structures, axial slices."""
    found = structures()
    bits = torch.stack([(found == k).any(0).any(0) for k in (1, 2)]).float()  # [2, D]
    return bits[:, None, None, :].expand(-1, *SIZE).contiguous()


def cohort(count: int = 2, reject: tuple[str, ...] = ()) -> SimpleNamespace:
    """Return what stands for a `WeakCohort` of `count` cases."""
    location = import_bundle("weakmedsam", "prior.location").Location
    bits = presence()[:, 0, 0].numpy() > 0.5
    cases = [{"case": f"case_{n}", "image": f"case_{n}.nii.gz"} for n in range(count)]
    return SimpleNamespace(
        name="cohort",
        labels=LABELS,
        cases=cases,
        scored=[1],
        reject=list(reject),
        slice_axis=2,
        slice_labels={case["case"]: SimpleNamespace(axis=2, bits=bits, share=bits.mean(1)) for case in cases},
        positive_share={1: 0.4, 4: 0.5},
        locations={
            1: location(((0.1, 0.5), (0.1, 0.6), (0, 1)), 1.5),
            4: location(((0.5, 0.9), (0.4, 1), (0, 1)), None),
        },
        grid=Grid(SIZE, SPACING, tuple(LABELS)),
        describe_share=lambda: "front 40 %, back 50 % of the axial slices are positive",
    )


def images(count: int = 2) -> list[dict[str, Any]]:
    """Return what stands for the cached training volumes."""
    return [{"case": f"case_{n}", "image": grid_image(n), "presence": presence()} for n in range(count)]


def one_hot() -> Tensor:
    """Return the true one-hot label [3, H, W, D]."""
    return nn.functional.one_hot(structures(), 3).movedim(-1, 0).float()


class FakeLabeller:
    """Stands for a finished `PseudoLabeller`: the truth, in doubt in the first rows of the volume."""

    prior, threshold = "box", "size"

    def __init__(self, cohort_: Any) -> None:
        self.cohort = cohort_
        self.cases = [case["case"] for case in cohort_.cases]
        self.selected = [case for case in self.cases if case not in cohort_.reject]

    def load(self, case: str) -> dict[str, Tensor]:
        weight = torch.ones(1, *SIZE)
        weight[:, :3] = 0
        return {"target": one_hot(), "weight": weight}

    def judgement(self, case: str) -> dict[str, dict[str, float]]:
        return {
            "volume_ml": {"1": 1.25, "4": 2.5},
            "agreement": {"1": 0.75, "4": 0.5},
            "z_consistency": {"1": 0.875, "4": 0.9375},
        }

    def training_indices(self) -> list[int]:
        return [index for index, case in enumerate(self.cases) if case in self.selected]

    def make_prior(self, item: dict[str, Any]) -> Tensor:
        return 0.8 * one_hot()[1:] * item["presence"]

    def presence(self, item: dict[str, Any]) -> Tensor:
        return item["presence"] * inside_scan(item["image"])

    def calibrate(self, maps: Tensor, presence_: Tensor) -> Tensor:
        return maps * presence_
