"""What the classifier is given beside the image: features and sub-classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait

from .classifier.clusters import SubClasses
from .common.sam.features.slice_features import SliceFeatures


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
