"""Evaluation of the two branches side by side: the segmentation, and the label propagated by registration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform

from .common.imaging.registration import folding_percent, register_affine
from .common.scoring.metrics import case_metrics
from .common.tensors import plain
from .labeller import AtlasLabeller


class AddPropagatedd(MapTransform):
    """Add `propagated` [K, H, W, D], the atlas label brought to `image` by registration, and its `folding_percent`.

    Instance-optimised registration where the labeller has steps for it, else the registration network's. Where the
    labeller has `guided_steps`, such steps follow in which the prediction steers the registration.
    """

    def __init__(self, labeller: AtlasLabeller) -> None:
        super().__init__(["image"])
        self.labeller = labeller

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        fixed = plain(data["image"]).float()[None].to(self.labeller.device)
        affine = register_affine(fixed, self.labeller.atlas["image"])
        velocities = self.labeller.velocities(fixed, affine)
        velocity = velocities.get("instance", velocities.get("network"))
        if self.labeller.guided_steps:
            prediction = plain(data["pred"]).float().to(self.labeller.device)
            velocity = self.labeller.guide(fixed, affine, velocity, prediction, self.labeller.guided_steps)
        label, ddf = self.labeller.propagate(affine, velocity)
        return {**data, "propagated": label.cpu(), "folding_percent": float(folding_percent(ddf))}


class PropagationColumns:
    """Columns of the metrics table for the registration branch: its Dice of each label, and the folded voxels (%)."""

    def __init__(self, label_values: Sequence[int]) -> None:
        self.label_values = list(label_values)

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        if "propagated" not in item:
            return {}
        spacing = affine_to_spacing(np.asarray(item["label"].affine), r=3)
        found = case_metrics(item["propagated"][0], item["label"][0], spacing, self.label_values)
        dice = {value: scores["dice"] for value, scores in found.items()}
        return {"propagated_dice": dice, "folding_percent": item["folding_percent"]}
