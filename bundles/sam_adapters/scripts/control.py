"""The plain control: the light network's body, taught by the labelled volumes alone."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from .cohort import SlicedCohort
from .common.control.training import PlainControl as CommonControl
from .common.pseudo_labels.objective import SegmentObjective
from .common.training.loaders import two_stream_loader


class PlainControl(CommonControl):
    """`PlainControl` of the labelled volumes, as many a step as the method has; no unlabelled one, no SAM.

    Args:
        cohort: knows who is labelled; they come first in the method's data set, whose augmentation is the control's.
        options: see `PlainControl`.
    """

    def __init__(self, cohort: SlicedCohort, **options: Any) -> None:
        super().__init__(**options)
        self.cohort = cohort

    def loader(self) -> DataLoader | None:
        count, batch = len(self.cohort.labeled), self.dataloader.sampler.labeled_batch
        if count == 0:
            return None
        dataset = self.dataloader.dataset
        return two_stream_loader(self.training_run, dataset, range(count), self.epoch_length, batch, 0, stream=3)

    def objective(self, network: nn.Module) -> nn.Module:
        return SegmentObjective(network)
