"""The plain control of SemiSAM+: the specialist's body, taught by the labelled volumes alone."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from .common.cohorts.few_labels import FewLabelCohort
from .common.control.training import PlainControl as CommonControl
from .common.training.loaders import two_stream_loader
from .methods.base import SemiSupervisedObjective


class PlainControl(CommonControl):
    """`PlainControl` of the labelled volumes, as many a step as the method has; no unlabelled one, no generalist.

    Args:
        cohort: knows who is labelled; they come first in the method's data set, whose augmentation is the control's.
        options: see `PlainControl`.
    """

    def __init__(self, cohort: FewLabelCohort, **options: Any) -> None:
        super().__init__(**options)
        self.cohort = cohort

    def loader(self) -> DataLoader | None:
        count, batch = len(self.cohort.labeled), self.dataloader.sampler.labeled_batch
        if count == 0:
            return None
        dataset = self.dataloader.dataset
        return two_stream_loader(self.training_run, dataset, range(count), self.epoch_length, batch, 0, stream=0)

    def objective(self, network: nn.Module) -> nn.Module:
        return SemiSupervisedObjective(network, total_steps=max(1, self.epochs * len(self.dataloader)))
