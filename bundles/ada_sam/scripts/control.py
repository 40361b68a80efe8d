"""The plain control of ADA-SAM: the segmenter's body, taught by the drawn slices and the bits alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from monai.data import Dataset
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .common.control.training import PlainControl as CommonControl
from .common.grid.field_of_view import inside_scan
from .common.pseudo_labels.objective import SegmentObjective
from .common.pseudo_labels.preprocessing import TaughtPreprocessing
from .common.tensors import plain
from .common.training.loaders import stream_loader


class PlainControl(CommonControl):
    """`PlainControl` of masks on slices: what nobody drew teaches nothing, but slices on which the bits say there is
    nothing are background. The volumes and their augmentation are those of the method's own data set.
    """

    def loader(self) -> DataLoader:
        own, batch = self.dataloader.dataset, self.dataloader.batch_size
        transform = TaughtPreprocessing(OnlyMasks(own.data, self.network.classes), own.transform.augmentation)
        return stream_loader(
            self.training_run, Dataset(own.data, transform), self.epoch_length * batch, batch, stream=3
        )

    def objective(self, network: nn.Module) -> nn.Module:
        return SegmentObjective(network)


class OnlyMasks:
    """Stand for the labeller where nothing but the masks teaches, and the bits where a slice has no class.

    Args:
        images: items with `image`, `label`, `annotated` and `presence` on the common grid.
        classes: K, background included.
    """

    def __init__(self, images: Iterable[Mapping[str, Any]], classes: int) -> None:
        self.items, self.classes = {item["case"]: item for item in images}, classes

    def load(self, case: str) -> dict[str, Tensor]:
        """Return `target` [K, H, W, D] and `weight` [1, H, W, D] of a case, float32, both 0 where nothing is known."""
        item = self.items[case]
        label = plain(item["label"])[0].round().long()
        empty = plain(item["presence"]).sum(0, keepdim=True) < 0.5
        known = ((plain(item["annotated"]) > 0.5) | empty) & inside_scan(item["image"]).cpu()
        target = F.one_hot(label, self.classes).movedim(-1, 0).float()
        return {"target": target * known, "weight": known.to(torch.float32)}
