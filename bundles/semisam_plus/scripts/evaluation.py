"""Evaluation of the specialist beside the same cleaned without any SAM, and beside the generalists' own masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform

from .common.imaging.solid import smooth_and_keep_largest
from .common.scoring.metrics import case_metrics
from .common.tensors import plain
from .generalists.consultation import combine
from .generalists.panel import GeneralistPanel

CLEANED = "cleaned"


class AddCleanedd(MapTransform):
    """Add `cleaned` [K, H, W, D], the prediction smoothed and with its largest components only: the control."""

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__(["pred"])
        self.sigma = sigma

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {**data, CLEANED: smooth_and_keep_largest(plain(data["pred"]).float(), self.sigma)}


class AddGeneralistsd(MapTransform):
    """Add what each generalist makes of the specialist's prediction, with each kind of prompt, [K, H, W, D] by title.

    Only cases whose truth is known pass here; the answers are compared with it, and nothing learns from them.
    """

    def __init__(self, panel: GeneralistPanel) -> None:
        super().__init__(["pred"])
        self.panel = panel

    @torch.no_grad()
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(data)
        if not self.panel.names:
            return result
        probabilities = plain(data["pred"]).float().to(self.panel.device)
        embeddings = self.panel.embed(plain(data["image"]).float())
        for title, (number, generalist) in self.panel.compared.items():
            said = generalist.answer(embeddings[number].to(self.panel.device), probabilities)
            result[title] = combine([said], probabilities)[0].cpu()
        return result


def shown_maps(panel: GeneralistPanel) -> dict[str, str]:
    """Return the maps of a picture in the report, title -> key: the prediction, one generalist's answer, the truth."""
    asked = {title: title for title in list(panel.compared)[:1]}
    return {"prediction": "pred", **asked, "truth": "label"}


class ComparedColumns:
    """Columns of the metrics table for everything beside the prediction: Dice of each label, and the control's HD95.

    Args:
        label_values: of the labels.
        keys: of the label maps.
    """

    def __init__(self, label_values: Sequence[int], keys: Sequence[str]) -> None:
        self.label_values, self.keys = list(label_values), list(keys)

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        spacing = affine_to_spacing(np.asarray(item["label"].affine), r=3)
        columns = {}
        for key in self.keys:
            if key in item:
                found = case_metrics(item[key][0], item["label"][0], spacing, self.label_values)
                columns[f"{key} dice"] = {value: scores["dice"] for value, scores in found.items()}
                if key == CLEANED:
                    columns[f"{key} hd95"] = {value: scores["hd95"] for value, scores in found.items()}
        return columns
