"""What stands beside the prediction in every table: other answers for the same scan, scored on the same voxels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from torch import Tensor

from ..grid.native import ToNativeGridd
from ..tensors import plain
from .metrics import case_metrics

COLUMNS = "compared"  # key of what AddComparedd has scored


@dataclass(frozen=True)
class Compared:
    """One column of the comparison: its name in run.json, its title, and the column of the metrics it is the mean of.

    With `against`, the name of an earlier column, it is the difference of the two instead. `hd95` names a column of the
    metrics for the distances, where they are wanted beside the Dice. With `control` it is what the method has to beat,
    and the text is what to do where the method doesn't.
    """

    name: str
    title: str
    column: str = ""
    against: str = ""
    hd95: str = ""
    control: str = ""


COARSE = Compared("coarse", "coarse level alone", "coarse dice")
PLAIN = Compared(
    "plain", "plain UNet of the same labels", "plain dice",
    control="control.pt beside model.pt serves it, by inference.json with --ckpt_path",
)  # fmt: skip


class AddComparedd(MapTransform):
    """Score other answers for a scan beside its prediction, on the voxels of its label; none learns from the scores.

    A bundle's own class says what they are (`opinions`). It comes before the prediction leaves the network's grid. The
    item gets the label map [1, H', W', D'] of each under its name, and the scores, which `columns` hands to
    `NativeGridMetrics`; an item without a label is not scored.

    Args:
        label_values: value of each class in a label map, background first; K = len(label_values).
    """

    def __init__(self, label_values: Sequence[int]) -> None:
        super().__init__(["pred"])
        self.label_values = [int(value) for value in label_values]

    @abstractmethod
    def opinions(self, data: Mapping[str, Any]) -> Mapping[Compared | str, Any]:
        """Return what stands beside the prediction of an item, in the order of the columns.

        For a `Compared` its answer on the grid of the image: probabilities [K, H, W, D], of which the largest wins, or
        soft masks [K - 1, H, W, D] that may overlap, each judged by itself and leaving no label map; or a pair of that
        and another image of the scan, on whose voxels it lies. For a name the column itself: a number, or one for each
        label value.
        """

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        result, columns = dict(data), {}
        for what, found in self.opinions(data).items():
            if not isinstance(what, Compared):
                columns[what] = found
                continue
            scores: dict[int, dict[str, float]] = {}
            found, image = found if isinstance(found, tuple) else (found, data["image"])
            for volume, values in self._label_maps(found, image):
                if data.get("label") is not None:
                    scores |= score(volume, data["label"], values)
                if len(found) == len(self.label_values):
                    result[what.name] = volume
            for column, metric in ((what.column, "dice"), (what.hd95, "hd95")):
                if column:
                    columns[column] = {value: one[metric] for value, one in scores.items()}
        return {**result, COLUMNS: columns}

    def columns(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of the metrics table that a scored item has beside the prediction's own."""
        return dict(item[COLUMNS])

    def _label_maps(self, found: Tensor, image: Tensor) -> Iterator[tuple[Tensor, list[int]]]:
        """Yield label maps [1, H', W', D'] on the scan's own voxels, and the values that each is about."""
        if len(found) == len(self.label_values):
            layers = iter([(found, self.label_values)])
        else:  # what is 0.5 counts as background
            pairs = zip(found, self.label_values[1:], strict=True)
            layers = ((torch.stack([1 - mask, mask]), [0, value]) for mask, value in pairs)
        for probabilities, values in layers:
            yield ToNativeGridd("found", values)({"found": probabilities, "image": image})["found"], values


def score(volume: Tensor, label: Tensor, values: Sequence[int]) -> dict[int, dict[str, float]]:
    """Return the metrics of a label map against a label, both [1, H, W, D] on the same voxels, by value."""
    spacing = affine_to_spacing(np.asarray(label.affine.cpu()), r=3)
    return case_metrics(plain(volume)[0], plain(label)[0], spacing, values)
