"""Voxels of a labelled scan with what a network says of them: some around each label, all standing for the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F

from ..grid.native import is_outside
from ..grid.to_grid import class_boxes
from ..imaging.morphology import dilate
from ..imaging.uncertainty import LEAST
from ..tensors import plain

AROUND = 2  # voxels of the scan, by which truth and prediction of a label are grown
DRAWN = 4000  # voxels at most, around each label and elsewhere


@dataclass(frozen=True)
class Voxels:
    """Of one case.

    Attributes:
        logs: log-probabilities [N, K], float32, at the scan's own voxels.
        truth: class [N].
        around: class around which each was drawn [N]; 0: around none.
        weight: voxels of the scan that each stands for [N].
    """

    logs: Tensor
    truth: Tensor
    around: Tensor
    weight: Tensor


def draw_voxels(pred: Tensor, image: MetaTensor, label: Tensor, found: Tensor, label_values: Sequence[int]) -> Voxels:
    """Draw voxels of a scan: around each label, i.e. its truth and prediction grown by two voxels, and elsewhere.

    Args:
        pred: probabilities [K, H, W, D] on the network's grid.
        image: as the network saw it, see `ToNativeGridd`.
        label, found: label values of truth and prediction on the scan's voxels, [H', W', D'].
        label_values: value of each class, background first.
    """
    generator = torch.Generator().manual_seed(0)
    regions = _regions(label, found, label_values)
    shared = torch.zeros(label.shape, dtype=torch.int16)
    for region in regions:
        shared[tuple(region.T)] += 1
    size = torch.tensor(label.shape)
    anywhere = (torch.rand((4 * DRAWN, 3), generator=generator) * size).long().minimum(size - 1)
    elsewhere = anywhere[shared[tuple(anywhere.T)] == 0][:DRAWN]
    drawn = [elsewhere, *(region[torch.randperm(len(region), generator=generator)[:DRAWN]] for region in regions)]
    counts = [int((shared == 0).sum()), *map(len, regions)]
    voxels = torch.cat(drawn)
    weight = torch.cat([torch.full((len(own),), n / max(len(own), 1)) for own, n in zip(drawn, counts, strict=True)])
    around = torch.cat([torch.full((len(own),), number) for number, own in enumerate(drawn)])
    classes = torch.zeros(max(label_values) + 1, dtype=torch.long)
    classes[list(label_values)] = torch.arange(len(label_values))
    truth = classes[label[tuple(voxels.T)].long()]
    weight /= shared[tuple(voxels.T)].clamp_min(1)  # drawn for one of several labels around which it lies
    return Voxels(_probabilities(pred, image, voxels).clamp_min_(LEAST).log_(), truth, around, weight)


def _regions(label: Tensor, found: Tensor, label_values: Sequence[int]) -> list[Tensor]:
    """Return the voxels [n, 3] around each label but background."""
    volumes = (label, found)
    boxes = [class_boxes(volume) for volume in volumes]
    regions = []
    for value in label_values[1:]:
        near = [own[value] for own in boxes if value in own]
        if not near:
            regions.append(torch.zeros((0, 3), dtype=torch.long))
            continue
        box = tuple(slice(max(min(s.start for s in axis) - AROUND, 0), max(s.stop for s in axis) + AROUND)
                    for axis in zip(*near, strict=True))  # fmt: skip
        mask = dilate((label[box] == value) | (found[box] == value), AROUND)
        regions.append(mask.nonzero() + torch.tensor([s.start for s in box]))
    return regions


def _probabilities(pred: Tensor, image: MetaTensor, voxels: Tensor) -> Tensor:
    """Return probabilities [N, K] at voxels [N, 3] of the scan, as `ToNativeGridd` saves them."""
    affine = torch.as_tensor(image.meta["original_affine"], dtype=torch.float64, device="cpu")
    to_grid = torch.linalg.inv(image.affine.double().cpu()) @ affine
    position = (voxels.double() @ to_grid[:3, :3].T + to_grid[:3, 3]).float()
    size = torch.tensor(pred.shape[1:])
    points = (position * 2 / (size - 1).clamp_min(1) - 1).flip(-1)[None, :, None, None]  # last axis first
    maps = plain(pred).float()[None]
    sampled = F.grid_sample(maps, points, mode="bilinear", padding_mode="border", align_corners=True)[0, :, :, 0, 0].T
    beyond = torch.stack([is_outside(p, int(n)) for p, n in zip(position.T, size, strict=True)]).any(0)
    sampled[beyond] = F.one_hot(torch.tensor(0), len(pred)).float()
    return sampled
