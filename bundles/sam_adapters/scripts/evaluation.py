"""What stands beside the deployed model in every table: the adapted SAM's own answer, slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose
from torch import Tensor

from .common.scoring.compared import AddComparedd, Compared
from .labeller import SliceLabeller

ITSELF = Compared("itself", "SAM with its parts", "itself dice")


class AddAdaptedSamd(AddComparedd):
    """Add the adapted SAM's own answer. The label is looked at only by the metric.

    Args:
        labeller: knows the adapted SAM; None leaves everything out, for an evaluation of the model alone.
        preprocessing: of a path to what SAM sees of a scan.
    """

    def __init__(
        self, label_values: Sequence[int], labeller: SliceLabeller | None, preprocessing: Compose | None
    ) -> None:
        super().__init__(label_values)
        self.labeller, self.preprocessing = labeller, preprocessing

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.labeller is None or self.preprocessing is None:
            return super().__call__(data)
        if tuple(data["image"].shape[1:]) == self.labeller.cohort.slice_grid.spatial_size:  # the same voxels
            return super().__call__(data)
        seen = self.preprocessing({"image": str(data["image"].meta["filename_or_obj"])})["image"]
        return {**super().__call__({**data, "image": seen}), "image": data["image"]}

    @torch.no_grad()
    def opinions(self, data: Mapping[str, Any]) -> dict[Compared | str, Tensor]:
        if self.labeller is None:
            return {}
        return {ITSELF: self.labeller.segment("scored", data["image"])}
