"""What a training step is given beside the image: pseudo label, or the aligned atlas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.transforms import Compose, EnsureTyped, MapTransform
from monai.transforms.traits import RandomizableTrait

from ..common.atlas.labeller import AtlasLabeller
from ..common.launch.words import truth
from .teacher import AddTeacherd, SamTeacher


class AddTargetsd(MapTransform, RandomizableTrait):
    """Add what stage 2 learns from: `pseudo_label` [K, H, W, D] of the current round, or (online) the aligned atlas.

    Not cached: the pseudo label changes between rounds, and the aligned atlas is made on the fly to save memory.
    """

    def __init__(self, labeller: AtlasLabeller, online: bool = False) -> None:
        super().__init__(["case"])
        self.labeller, self.online = labeller, truth("online_labels", online)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.online:
            return AddAlignedAtlasd(self.labeller)(data)
        return {**data, "pseudo_label": self.labeller.labels.load(data["case"])["label"]}


class AddAlignedAtlasd(MapTransform, RandomizableTrait):
    """Add the affinely aligned atlas: `moving` [C, H, W, D] and `moving_label` [K, H, W, D]; made on the fly.

    Beside it `inside` [1, H, W, D], 0 where the image was not scanned.
    """

    def __init__(self, labeller: AtlasLabeller) -> None:
        super().__init__(["case"])
        self.labeller = labeller

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        moving, moving_label = self.labeller.aligned(data["case"])
        inside = self.labeller.inside(data["image"])[0]
        return {**data, "moving": moving.cpu(), "moving_label": moving_label.cpu(), "inside": inside.cpu()}


class TrainPreprocessing(Compose):
    """What stage 2 learns from, turned and scaled alike, with other contrast and noise in the image.

    Args:
        labeller, online: see `AddTargetsd`.
        teacher: its features are added where there is one.
        augmentation: of `image`, `pseudo_label`, `moving` and `moving_label`.
    """

    def __init__(
        self, labeller: AtlasLabeller, teacher: SamTeacher, augmentation: Compose, online: bool = False
    ) -> None:
        keys = ["image", "pseudo_label", "moving", "moving_label"]
        steps = [
            AddTargetsd(labeller, online),
            AddTeacherd(teacher),
            augmentation,
            EnsureTyped(["inside", *keys], track_meta=False, allow_missing_keys=True),
        ]
        super().__init__(steps)
