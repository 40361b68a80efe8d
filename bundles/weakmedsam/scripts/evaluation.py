"""What stands beside the model in every table: controls that know the slice range, presence, the per-slice metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from torch import Tensor

from .common.grid.native import ToNativeGridd
from .common.sam.features.slice_features import SliceFeatures
from .common.scoring.metrics import case_metrics
from .common.scoring.table import MetricsTable
from .common.tensors import plain
from .labeller import PseudoLabeller
from .prior.location import centre_prior
from .scoring.presence import NativeSlices, SliceIndex, presence_auc
from .scoring.slice_parity import COLUMNS as SLICE_COLUMNS
from .scoring.slice_parity import slice_parity

SCORED = "scored"  # stands for the id of a case that is no training case
COMPARED = "compared"  # key of the columns that AddControlsd has made
Control = Callable[[Tensor, Tensor], Tensor]


class CentreControl:
    """The ellipse of half the scan's sides in its centre, on the slices that are known to be positive."""

    def __init__(self, slice_axis: int) -> None:
        self.slice_axis = slice_axis

    def __call__(self, image: Tensor, bits: Tensor) -> Tensor:
        """Return soft masks [P, H, W, D] of an image [1, H, W, D] with bits bool [P, n]."""
        ellipse = centre_prior(image, self.slice_axis)
        return torch.stack([ellipse * along_axis(row, self.slice_axis) for row in bits])


class PriorControl:
    """The prior that the pseudo labels began with, by itself, cut at its threshold, on the slices known to be positive.

    Args:
        labeller: whose prior and threshold they are.
        features: take the image where the prior is an activation map.
    """

    def __init__(self, labeller: PseudoLabeller, features: SliceFeatures) -> None:
        self.labeller, self.features = labeller, features

    def __call__(self, image: Tensor, bits: Tensor) -> Tensor:
        """Return soft masks [P, H, W, D] of an image [1, H, W, D] with bits bool [P, n]."""
        axis = self.labeller.cohort.slice_axis
        presence = torch.stack([along_axis(row.float(), axis).expand(image.shape[1:]) for row in bits])
        self.features.note(SCORED, image)
        maps = self.labeller.make_prior({"case": SCORED, "image": image, "presence": presence})
        return self.labeller.calibrate(maps, presence)


class AddControlsd(MapTransform):
    """Add the columns of what needs no trained segmenter, {column: {label value: number}}, as `compared`.

    Dice of each control on the native grid, every label by itself; the controls are told the true slice range, which
    the model is not. Beside them how well model and slice index tell the slices that have the label (area under the ROC
    curve over the slices of the case).

    Args:
        controls: title -> (image [1, H, W, D], bits bool [P, n]) -> soft masks [P, H, W, D]; None is left out.
        slice_index: gives the scores that no image is needed for.
        label_values: of the labels, background first.
    """

    def __init__(
        self, controls: Mapping[str, Control | None], slice_index: SliceIndex, label_values: Sequence[int]
    ) -> None:
        super().__init__(["pred"])
        self.controls = {title: control for title, control in controls.items() if control is not None}
        self.slice_index, self.label_values = slice_index, [int(v) for v in label_values if v != 0]

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        image, label, pred = data["image"], data["label"], plain(data["pred"])
        axis = self.slice_index.slice_axis
        grid_affine = np.asarray(image.affine.cpu(), dtype=float)
        slices = NativeSlices(label.shape[1:], np.asarray(label.affine.cpu(), dtype=float), axis)
        truth = plain(label)[0].cpu().numpy()
        bits = slices.bits(truth, self.label_values)
        scores = {"auc": slices.scores(pred, grid_affine), "index auc": self.slice_index.scores(slices)}
        columns: dict[str, dict[int, float]] = {
            name: {v: presence_auc(*pair) for v, *pair in zip(self.label_values, found, bits, strict=True)}
            for name, found in scores.items()
        }
        known = slices.bits_on_grid(bits, grid_affine, image.shape[axis + 1])
        spacing = np.linalg.norm(slices.affine[:3, :3], axis=0)
        for title, control in self.controls.items():
            masks = control(image, known)
            columns[f"{title} dice"] = {
                value: self._dice(mask, image, truth, spacing, value)
                for value, mask in zip(self.label_values, masks, strict=True)
            }
        return {**data, COMPARED: columns}

    @staticmethod
    def _dice(mask: Tensor, image: Tensor, truth: np.ndarray, spacing: np.ndarray, value: int) -> float:
        """Return the Dice of one soft mask [H, W, D] on the image's grid with a label of the native one."""
        both = torch.stack([1 - mask, mask])  # what is 0.5 counts as background
        native = ToNativeGridd("mask", [0, value])({"image": image, "mask": both})["mask"]
        return case_metrics(native[0], truth, spacing, [value])[value]["dice"]


class ComparedColumns:
    """Columns of the metrics table beside the model's own: those of `AddControlsd`, and the paper's per-slice metric.

    Args:
        slice_axis: 0, 1 or 2 of the RAS grid.
        label_values: of the labels.
    """

    def __init__(self, slice_axis: int, label_values: Sequence[int]) -> None:
        self.slice_axis, self.label_values = slice_axis, [int(v) for v in label_values if v != 0]

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        columns: dict[str, Any] = dict(item.get(COMPARED, {}))
        label = item["label"]
        slices = NativeSlices(label.shape[1:], np.asarray(label.affine.cpu(), dtype=float), self.slice_axis)
        pred, truth = (plain(item[key])[0].cpu().numpy() for key in ("pred", "label"))
        for value in self.label_values:
            for name, number in slice_parity(pred == value, truth == value, slices.axis).items():
                columns.setdefault(name, {})[value] = number
        return columns


def print_scores(table: MetricsTable) -> None:
    """Print the table without the paper's per-slice metric, which nobody is to read beside a volume Dice."""
    shown = MetricsTable(table.label_names)
    shown.rows = [{name: number for name, number in row.items() if name not in SLICE_COLUMNS} for row in table.rows]
    shown.skipped = table.skipped
    shown.print()


def along_axis(values: Tensor, axis: int) -> Tensor:
    """Return values [n] as [n, 1, 1], [1, n, 1] or [1, 1, n]."""
    return values.reshape([-1 if a == axis else 1 for a in range(3)])
