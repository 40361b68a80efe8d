"""A `PseudoLabeller` of the small cohort of `fake.py`, and what its tests ask of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from support.bundle.path import import_bundle
from support.weakmedsam.fake import SIZE, SPACING, cohort, images

labeller_module = import_bundle("weakmedsam", "labeller")
location = import_bundle("weakmedsam", "prior.location")
Walk = import_bundle("weakmedsam", "walk.walks").Walk

BOXES = (((0.1, 0.5), (0.1, 0.6), (0.0, 1.0)), ((0.5, 0.9), (0.4, 1.0), (0.0, 1.0)))


class Bright(nn.Module):
    """Stands for the appearance network: bright is foreground; a bias makes it sure of everything, or of nothing.

    The two labels of the small cohort share slices, so that each has its own map: two, and of both the same.
    """

    def __init__(self, bias: float = 0.0, classes: int = 2) -> None:
        super().__init__()
        self.bias, self.classes, self.calls, self.dropout = bias, classes, 0, nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        assert not self.dropout.training and not torch.is_grad_enabled()
        assert image.shape == (1, 1, *SIZE) and type(image) is Tensor
        self.calls += 1
        return ((30 * (image - 0.2)).clamp(-3, 3) + self.bias).expand(-1, self.classes, -1, -1, -1)


class Features:
    """A feature of 1 at a fixed token of every slice; there are as many slices as the volume has."""

    def features(self, case: str) -> Tensor:
        maps = torch.zeros(SIZE[2], 2, 4, 3)
        maps[:, 0, 1, 0], maps[:, 1, 3, 2] = 1.0, 1.0
        return maps


class Classifier(nn.Module):
    """Its maps are the features."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        assert not self.dropout.training
        return features.mean((2, 3)), features


def make(
    folder: Path, count: int = 2, boxes: Any = BOXES, sizes: Any = (None, None), reject: tuple[str, ...] = (),
    walk: Any = None, bits: Any = None, **settings: Any,
) -> Any:  # fmt: skip
    """Return a labeller of `count` cases; three rounds without a walk, cut at 0.5.

    `bits` [P, n] stand for what the cohort says of all its cases; the volumes are as ever.
    """
    known = cohort(count, reject)
    if bits is not None:
        known.slice_labels = {case["case"]: SimpleNamespace(bits=bits) for case in known.cases}
    places = zip(boxes, sizes, strict=True)
    known.locations = dict(zip((1, 4), (location.Location(box, size) for box, size in places), strict=True))
    settings = {"rounds": 3, "threshold": 0.5, **settings}
    return labeller_module.PseudoLabeller(known, images(count), walk or Walk(None, 2, SPACING), str(folder), **settings)


def run(labeller: Any, network: nn.Module | None = None) -> Any:
    """Do all rounds, the network not learning meanwhile."""
    network = network or Bright()
    labeller.start()
    for number in range(2, labeller.rounds + 1):
        labeller.renew(number, network)
    labeller.finish(network)
    return labeller


def files(folder: Path) -> dict[str, bytes]:
    """Return the labels of a folder, byte by byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def dice(first: Tensor, second: Tensor) -> float:
    first, second = first > 0.5, second > 0.5
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))
