"""The plain control of a method that learns from labelled volumes and others: the labelled ones alone."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from ..cohorts.few_labels import FewLabelCohort
from ..training.loaders import two_stream_loader
from .training import PlainControl


class LabelledControl(PlainControl):
    """`PlainControl` of the labelled volumes, as many a step as the method has, and of nothing else.

    Args:
        cohort: knows who is labelled; they come first in the method's data set, whose augmentation is the control's.
        options: see `PlainControl`.

    stream: number of the method's own stream of cases.
    """

    stream = 0

    def __init__(self, cohort: FewLabelCohort, **options: Any) -> None:
        super().__init__(**options)
        self.cohort = cohort

    def loader(self) -> DataLoader | None:
        count, batch = len(self.cohort.labeled), self.dataloader.sampler.labeled_batch
        if count == 0:
            return None
        dataset = self.dataloader.dataset
        return two_stream_loader(self.training_run, dataset, range(count), self.epoch_length, batch, 0, self.stream)
