"""The plain control of SemiSAM+: the specialist's body, taught by the labelled volumes alone."""

from __future__ import annotations

from torch import nn

from .common.control.few_labels import LabelledControl
from .methods.base import SemiSupervisedObjective


class PlainControl(LabelledControl):
    """`LabelledControl` by the supervised loss of the methods; no unlabelled volume, no generalist."""

    def objective(self, network: nn.Module) -> nn.Module:
        return SemiSupervisedObjective(network, total_steps=max(1, self.epochs * len(self.dataloader)))
