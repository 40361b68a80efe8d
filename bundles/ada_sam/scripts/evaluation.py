"""What stands beside the deployed model in every table: ADA-SAM itself, and the same network slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform

from .common.evaluation import case_metrics
from .common.native_grid import ToNativeGridd
from .common.pseudo_label import plain
from .network import AdaSamVolume
from .volume_inference import VolumeInference

COMPARED = "compared"  # key of the columns that AddAdaSamd has made


class AddAdaSamd(MapTransform):
    """Add the Dice of ADA-SAM's own answers on the native grid, {column: {label value: number}}, as `compared`.

    It prompts itself, as at a site: nothing here gives it a box, a bit or a mask of the case, and the label is looked
    at only by the metric.

    Args:
        volume: encodes the images; None leaves everything out, for an evaluation of the model alone.
        inferences: title -> how the network is led through a volume; None is left out.
        label_values: of the labels, background first.
    """

    def __init__(
        self,
        volume: AdaSamVolume | None,
        inferences: Mapping[str, VolumeInference | None],
        label_values: Sequence[int],
    ) -> None:
        super().__init__(["pred"])
        self.volume, self.label_values = volume, [int(v) for v in label_values]
        self.inferences = {title: one for title, one in inferences.items() if one is not None and volume is not None}

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        image, label = data["image"], data["label"]
        columns: dict[str, dict[int, float]] = {}
        embeddings = self.volume.embed(plain(image)) if self.inferences else None
        for title, inference in self.inferences.items():
            with torch.no_grad():
                found = inference(embeddings, tuple(image.shape[1:]), None).probabilities
            item = {"image": image, "found": found.float().cpu()}
            native = ToNativeGridd("found", self.label_values)(item)["found"]
            spacing = affine_to_spacing(np.asarray(label.affine.cpu(), dtype=float), r=3)
            values = [value for value in self.label_values if value != 0]
            scores = case_metrics(plain(native)[0], plain(label)[0], spacing, values)
            columns[f"{title} dice"] = {value: scores[value]["dice"] for value in values}
        return {**data, COMPARED: columns}


class ComparedColumns:
    """Columns of the metrics table beside the model's own: those of `AddAdaSamd`."""

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return dict(item.get(COMPARED, {}))
