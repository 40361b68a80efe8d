"""What stands beside the deployed model in every table: ADA-SAM itself, slice by slice, and a plain UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from torch import Tensor, nn

from .common.grid.native import ToNativeGridd
from .common.sam.features.slice_features import context_planes
from .common.scoring.metrics import case_metrics
from .common.tensors import plain
from .learning.slice_unet import segment_slices
from .network import AdaSamVolume
from .volume.volume_inference import VolumeInference

COMPARED = "compared"  # key of the columns that AddAdaSamd has made


class AddAdaSamd(MapTransform):
    """Add the Dice of other answers on the native grid, {column: {label value: number}}, as `compared`: ADA-SAM's own,
    and those of the network that learnt the same masks and bits without any SAM.

    It prompts itself, as at a site: nothing here gives it a box, a bit or a mask of the case, and the label is looked
    at only by the metric.

    Args:
        volume: encodes the images; None leaves everything out, for an evaluation of the model alone.
        inferences: title -> how the network is led through a volume; None is left out.
        label_values: of the labels, background first.
        unet: network of `SliceUNetObjective`; None leaves it out, as it is where `volume` is None.
    """

    def __init__(
        self,
        volume: AdaSamVolume | None,
        inferences: Mapping[str, VolumeInference | None],
        label_values: Sequence[int],
        unet: nn.Module | None = None,
    ) -> None:
        super().__init__(["pred"])
        self.volume, self.label_values = volume, [int(v) for v in label_values]
        self.unet = None if volume is None else unet
        self.inferences = {title: one for title, one in inferences.items() if one is not None and volume is not None}

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        columns = {
            f"{title} dice": self._score(probabilities, data)
            for title, probabilities in self._answers(plain(data["image"])).items()
        }
        return {**data, COMPARED: columns}

    @torch.no_grad()
    def _answers(self, image: Tensor) -> dict[str, Tensor]:
        """Return title -> probabilities [K, H, W, D] of an image [1, H, W, D]."""
        answers = {}
        embeddings = self.volume.embed(image) if self.inferences else None
        for title, inference in self.inferences.items():
            answers[title] = inference(embeddings, tuple(image.shape[1:]), None).probabilities
        if self.unet is not None:
            axis = int(self.volume.slice_axis)
            answers["unet"] = segment_slices(self.unet, context_planes(image, axis, self.volume.context), axis)
        return answers

    def _score(self, probabilities: Tensor, data: Mapping[str, Any]) -> dict[int, float]:
        """Return label value -> Dice on the grid of the label."""
        label = data["label"]
        item = {"image": data["image"], "found": probabilities.float().cpu()}
        native = ToNativeGridd("found", self.label_values)(item)["found"]
        spacing = affine_to_spacing(np.asarray(label.affine.cpu(), dtype=float), r=3)
        values = [value for value in self.label_values if value != 0]
        scores = case_metrics(plain(native)[0], plain(label)[0], spacing, values)
        return {value: scores[value]["dice"] for value in values}


def slice_by_slice(inference: VolumeInference) -> VolumeInference:
    """Return the same network led through a volume without smoothing, medians or masks handed on along the slices."""
    return VolumeInference(
        inference.network, inference.slice_axis, presence_sigma=0.0, use_extents=False, longest_run=False,
        cam_scope="running", cam_sigma=0.0, box_median=1, passes=1, propagate=False, smooth=0.0,
        largest_component=False,
    )  # fmt: skip


class ComparedColumns:
    """Columns of the metrics table beside the model's own: those of `AddAdaSamd`."""

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return dict(item.get(COMPARED, {}))
