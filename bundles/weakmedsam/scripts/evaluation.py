"""What stands beside the model in every table: controls that know the slice range, presence, the per-slice metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .cohort import WeakCohort
from .common.grid.field_of_view import inside_scan
from .common.scoring.compared import AddComparedd, Compared
from .common.scoring.table import MetricsTable
from .common.slices.presence_volume import bits_on_grid
from .common.tensors import plain
from .labeller import PseudoLabeller
from .prior.location import centre_prior
from .scoring.presence import NativeSlices, SliceIndex, presence_auc
from .scoring.slice_parity import COLUMNS as SLICE_COLUMNS
from .scoring.slice_parity import slice_parity

WEAK = "bits alone do not find the structure: give a typical box and volume of each label, or masks"
PRIOR = Compared("prior", "prior + bits", "prior dice", control=WEAK)
CENTRE = Compared("centre", "centre ellipse + bits", "centre dice", control=WEAK)
SCORED = "scored"  # stands for the id of a case that is no training case


class AddControlsd(AddComparedd):
    """Add what needs no trained segmenter: an ellipse in the centre, and the prior that the pseudo labels began with.

    The controls are told the true slice range, which the model is not. Beside them how well model and slice index tell
    the slices that have the label (area under the ROC curve over the slices of the case), and the paper's per-slice
    metric.

    Args:
        cohort: of the training cases; the slice index learns from its bits.
        labeller: whose prior and threshold they are; None leaves the prior out.
    """

    def __init__(self, cohort: WeakCohort, label_values: Sequence[int], labeller: PseudoLabeller | None = None) -> None:
        super().__init__(label_values)
        self.axis, self.slice_index, self.labeller = cohort.slice_axis, SliceIndex(cohort), labeller
        self.foreground = [value for value in self.label_values if value != 0]

    def opinions(self, data: Mapping[str, Any]) -> dict[Compared | str, Any]:
        image, label = data["image"], data["label"]
        slices = self._slices(label)
        grid_affine = np.asarray(image.affine.cpu(), dtype=float)
        bits = slices.bits(plain(label)[0].cpu().numpy(), self.foreground)
        told = {"auc": slices.scores(plain(data["pred"]), grid_affine), "index auc": self.slice_index.scores(slices)}
        found: dict[Compared | str, Any] = {
            name: {v: presence_auc(*pair) for v, *pair in zip(self.foreground, scores, bits, strict=True)}
            for name, scores in told.items()
        }
        presence = bits_on_grid(torch.from_numpy(bits), slices.axis, image)
        found[CENTRE] = centre_prior(image, self.axis) * presence * inside_scan(image).cpu()
        if self.labeller is not None:
            found[PRIOR] = self._prior(image, presence)
        return found

    def _prior(self, image: Tensor, presence: Tensor) -> Tensor:
        """Return the prior by itself, cut at its threshold: soft masks [P, H, W, D]."""
        if self.labeller.needs_classifier:  # the prior is an activation map
            self.labeller.features.note(SCORED, image)
        item = {"case": SCORED, "image": image, "presence": presence}
        return self.labeller.calibrate(self.labeller.make_prior(item), self.labeller.presence(item))

    def _slices(self, label: Tensor) -> NativeSlices:
        return NativeSlices(label.shape[1:], np.asarray(label.affine.cpu(), dtype=float), self.axis)

    def columns(self, item: Mapping[str, Any]) -> dict[str, Any]:
        columns = super().columns(item)
        axis = self._slices(item["label"]).axis
        pred, truth = (plain(item[key])[0].cpu().numpy() for key in ("pred", "label"))
        for value in self.foreground:
            for name, number in slice_parity(pred == value, truth == value, axis).items():
                columns.setdefault(name, {})[value] = number
        return columns


def print_scores(table: MetricsTable) -> None:
    """Print the table without the paper's per-slice metric, which nobody is to read beside a volume Dice."""
    shown = MetricsTable(table.label_names)
    shown.rows = [{name: number for name, number in row.items() if name not in SLICE_COLUMNS} for row in table.rows]
    shown.skipped = table.skipped
    shown.print()
