"""The plain control: the light network's body, taught by the labelled volumes alone."""

from __future__ import annotations

from torch import nn

from .common.control.few_labels import LabelledControl
from .common.pseudo_labels.objective import SegmentObjective


class PlainControl(LabelledControl):
    """`LabelledControl` by the loss of the method; no unlabelled volume, no SAM."""

    stream = 3

    def objective(self, network: nn.Module) -> nn.Module:
        return SegmentObjective(network)
