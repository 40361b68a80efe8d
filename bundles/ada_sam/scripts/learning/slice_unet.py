"""A plain 2D network that learns the same masks from nothing: with many masks it knows what a frozen SAM does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from torch import Tensor, nn

from ..cohort import FewSlicesCohort
from ..common.errors import InputError
from ..common.sam.features.slice_features import SliceFeatures

AUTO = "auto"
EVEN = 30  # masks with which both teachers count alike


def unet_share(share: float | str, masks: int) -> float:
    """Return which share of a pseudo label the plain network gives, the rest being ADA-SAM's.

    Args:
        share: 0 to 1, or "auto" for masks / (masks + 30): the fewer masks, the more counts what SAM knew before.
        masks: number of slices with masks.

    Raises:
        InputError: a share that is none.
    """
    if share == AUTO:
        return masks / (masks + EVEN)
    try:
        number = float(share)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise InputError(f"unet_share is {share!r}; wanted a number from 0 to 1, or {AUTO!r}")
    return number


class SliceUNetObjective(nn.Module):
    """Dice of the slices with a mask, plus cross entropy of all slices, each with what is known of it.

    On a slice without a mask the classes that its bits deny are known to be nowhere, and nothing else is: what counts
    is the probability of the classes left together (marginal cross entropy, Shi et al. 2021, arXiv 2007.03868). A
    slice whose bits deny all is background.

    Batch, N slices: image [N, C, rows, columns] in [0, 1]; presence [N, P] 0 or 1; mask int64 [N, rows, columns] class
    index, below 0 on slices without a mask; annotated [N] 0 or 1. Masks of slices that are not annotated are not read.

    forward: batch -> {"loss", "dice", "cross_entropy"}.

    Args:
        network: [N, C, rows, columns] -> logits [N, P + 1, rows, columns].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dice = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        logits = self.network(batch["image"]).float()
        drawn = batch["annotated"] > 0.5
        mask = batch["mask"].clamp_min(0)[:, None]  # [N, 1, rows, columns]
        said = torch.cat([torch.ones_like(batch["presence"][:, :1]), batch["presence"]], 1) > 0.5  # [N, K]
        possible = said[:, :, None, None].expand_as(logits)
        exact = torch.zeros_like(possible).scatter_(1, mask, True)
        possible = torch.where(drawn[:, None, None, None], exact, possible)
        log_probabilities = logits.log_softmax(1).masked_fill(~possible, -math.inf)
        losses = {"cross_entropy": -log_probabilities.logsumexp(1).mean(), "dice": logits.sum() * 0}
        if bool(drawn.any()):
            losses["dice"] = self.dice(logits[drawn], mask[drawn])
        return {"loss": losses["dice"] + losses["cross_entropy"], **losses}


@torch.no_grad()
def segment_slices(network: nn.Module, planes: Tensor, slice_axis: int) -> Tensor:
    """Return the probabilities [K, H, W, D] of a volume whose slices are `planes` [n, C, rows, columns].

    The network is asked in eval mode, and left as it was.
    """
    training, device = network.training, next(network.parameters()).device
    network.eval()
    found = torch.cat([network(some.to(device).float()).softmax(1).cpu() for some in planes.split(8)])
    network.train(training)
    return found.movedim(0, slice_axis + 1)  # [n, K, ., .] -> [K, H, W, D]


def gated(probabilities: Tensor, gate: Tensor, slice_axis: int) -> Tensor:
    """Return probabilities [K, H, W, D] without the classes that `gate` (bool [P, n]) says are not on a slice."""
    around = [len(gate), 1, 1, 1]
    around[slice_axis + 1] = gate.shape[1]
    result = probabilities.clone()
    result[1:] *= gate.to(probabilities).view(around)
    result[0] = 1 - result[1:].sum(0)
    return result


class SliceUNetTeacher:
    """The plain network and its share, as the labeller asks them.

    Args:
        network: trained by `SliceUNetObjective`.
        features: `all_planes(case)` -> [n, C, rows, columns].
        share: see `unet_share`.
        masks: number of slices with masks.

    Attributes:
        by_label: the share is one to begin with, and how well both teachers repeat the masks is to say more.
    """

    def __init__(self, network: nn.Module, features: Any, share: float | str, masks: int) -> None:
        self.network, self.features, self.share = network, features, unet_share(share, masks)
        self.by_label = share == AUTO
        self.settings = {"share": self.share, "by_label": self.by_label}  # for run.json

    @property
    def counted(self) -> nn.Module | None:
        """The network, where it has a share."""
        return self.network if self.share else None

    def probabilities(self, case: str, gate: Tensor, slice_axis: int) -> Tensor:
        """Return [K, H, W, D] of a training case; `gate` bool [P, n] says on which slices each class is."""
        return gated(segment_slices(self.network, self.features.all_planes(case), slice_axis), gate, slice_axis)


def slice_teacher(
    cohort: FewSlicesCohort,
    features: SliceFeatures,
    channels: Sequence[int],
    strides: Sequence[int],
    norm: str,
    share: float | str,
) -> SliceUNetTeacher:
    """Return a plain network that has learnt nothing yet, with its share for the masks of a cohort.

    Args:
        channels, strides, norm: see MONAI's `UNet`.
        share: see `unet_share`.
    """
    planes, classes = 3 if features.context else 1, len(cohort.grid.label_values)
    network = UNet(2, planes, classes, channels, strides, num_res_units=2, norm=norm)
    return SliceUNetTeacher(network.to(features.device), features, share, cohort.num_masks)
