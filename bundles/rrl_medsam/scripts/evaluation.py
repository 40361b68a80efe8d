"""Evaluation of the two branches side by side: the segmentation, and the label propagated by registration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import LoadImage, MapTransform, Orientation

from .common.evaluation import case_metrics
from .common.overlay import overlay_png
from .common.pseudo_label import plain
from .common.registration import folding_percent, register_affine
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


class Gallery:
    """Ignite handler that draws the first cases of an evaluation: propagated label, prediction, truth over the image.

    Args:
        label_names: of the values in the label maps.
        limit: number of cases drawn.
    """

    def __init__(self, label_names: Mapping[int, str], limit: int = 6) -> None:
        self.label_names, self.limit = dict(label_names), limit
        self.pictures: dict[str, bytes] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.draw)

    def draw(self, engine: Engine) -> None:
        for given, item in zip(engine.state.batch, engine.state.output, strict=True):
            if len(self.pictures) >= self.limit:
                return
            label = item["label"]
            image = LoadImage(ensure_channel_first=True)(label_path(item, given))
            maps = {"label propagation": item.get("propagated"), "prediction": item["pred"], "truth": label}
            upright = Orientation("RAS", labels=None)
            affine = label.affine
            turned = {name: upright(with_affine(m, affine))[0] for name, m in maps.items() if m is not None}
            image = upright(with_affine(image, affine))
            spacing = affine_to_spacing(np.asarray(image.affine), r=3)
            volumes = {name: plain(m).round().int().numpy() for name, m in turned.items()}
            case = str(given.get("case", item.get("case")))
            self.pictures[case] = overlay_png(plain(image)[0].float().numpy(), volumes, self.label_names, spacing)


def label_path(item: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the file of a case's image."""
    return str((item.get("image", given.get("image"))).meta["filename_or_obj"])


def with_affine(volume: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Return a volume [1, H, W, D] as a MetaTensor of that affine alone."""
    return MetaTensor(plain(volume).cpu().float(), affine=affine)
