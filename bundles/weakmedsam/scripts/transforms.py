"""What a training step is given beside the image: features and sub-classes, or the pseudo label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait

from .clusters import SubClasses
from .features import SliceFeatures
from .labeller import PseudoLabeller


class AddFeaturesd(MapTransform, RandomizableTrait):
    """Add the frozen features of a case as `features` [n, D, h, w], read from disk; nothing for a tuned backbone."""

    def __init__(self, features: SliceFeatures) -> None:
        super().__init__(["case"])
        self.features = features

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.features.tuned:
            return dict(data)
        return {**data, "features": self.features.features(data["case"])}


class AddChildd(MapTransform, RandomizableTrait):
    """Add the sub-class of each slice as `child` [n, P * K + 1]; known once the clusters are."""

    def __init__(self, clusters: SubClasses) -> None:
        super().__init__(["case"])
        self.clusters = clusters

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {**data, "child": self.clusters.child(data["case"])}


class AddPseudoLabeld(MapTransform, RandomizableTrait):
    """Add a case's pseudo label: `target` [K, H, W, D] and `weight` [1, H, W, D], 0 where it is in doubt."""

    def __init__(self, labeller: PseudoLabeller) -> None:
        super().__init__(["case"])
        self.labeller = labeller

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        known = self.labeller.load(data["case"])
        return {**data, "target": known["target"], "weight": known["weight"]}
