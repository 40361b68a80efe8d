"""Random patches of fine cases, as a training step is given them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import CenterSpatialCropd, Compose, MapTransform, RandomizableTransform
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from ..synthesis.randomised import RandomisedCopyd
from .cases import UNKNOWN, read_patch

FOREGROUND = 0.75  # share of patches drawn around a structure, every structure as often as any other
WIDER = 1.2  # times the window that is read, so that turning it brings in what lies beside it


class RandPatchd(RandomizableTransform, MapTransform):
    """Read a patch around a random voxel of a random class of an item's file.

    Args:
        size: voxels.
        shrink: times that the patch is coarser than the file along each axis, and sees as much more.
    """

    def __init__(self, size: Sequence[int], shrink: Sequence[int] = (1, 1, 1)) -> None:
        MapTransform.__init__(self, ["path"])
        RandomizableTransform.__init__(self)
        self.shrink = [int(s) for s in shrink]
        self.size = [int(n) * s for n, s in zip(size, self.shrink, strict=True)]

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        with safe_open(data["path"], framework="pt") as file:
            points = file.get_tensor("points").long()
        classes = points[:, 0].unique()
        structures = classes[classes > 0]
        drawn = classes[classes == 0]
        if len(structures) and (not len(drawn) or self.R.random() < FOREGROUND):
            drawn = structures
        own = points[points[:, 0] == int(drawn[self.R.randint(len(drawn))])]
        centre = own[self.R.randint(len(own)), 1:]
        shift = [self.R.randint(-(n // 6), n // 6 + 1) for n in self.size]
        return {**data, **self.shrunk(read_patch(data["path"], (centre + torch.tensor(shift)).tolist(), self.size))}

    def shrunk(self, patch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a patch of which every shrink-th voxel is left: of the image what lies around, of the label itself."""
        around = [2 * s - 1 for s in self.shrink]
        image = F.avg_pool3d(patch["image"], around, self.shrink, [s - 1 for s in self.shrink], count_include_pad=False)
        x, y, z = (slice(None, None, s) for s in self.shrink)
        return {"image": image, "label": patch["label"][:, x, y, z]}


class ToTargetd(MapTransform):
    """Turn `label` [1, H, W, D] into `target` [K, H, W, D] and `weight` [1, H, W, D], 0 where the label is unknown.

    Args:
        classes: K, background included.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(["label"])
        self.classes = classes

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(data)
        label: Tensor = result.pop("label")
        label = (label.as_tensor() if hasattr(label, "as_tensor") else label).long()
        known = label != UNKNOWN
        target = F.one_hot(label.where(known, 0)[0], self.classes).movedim(-1, 0).float()
        return {**result, "target": target * known, "weight": known.float()}


class PatchPreprocessing(Compose):
    """What the fine network learns from: a patch of a case, changed at random.

    Args:
        size: of the window, voxels.
        classes: K, background included.
        augmentation: of `image` and `label`; the label is not interpolated.
        shrink: see `RandPatchd`.
        randomise: share of the patches that become copies of random contrast, see `RandomisedCopyd`; 0 for none.
        pixdim: spacing of the patch, mm; for these.
    """

    def __init__(
        self,
        size: Sequence[int],
        classes: int,
        augmentation: Compose,
        shrink: Sequence[int] = (1, 1, 1),
        randomise: float = 0.0,
        pixdim: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        wider = [math.ceil(WIDER * n) for n in size]
        cut = CenterSpatialCropd(["image", "label"], roi_size=tuple(size))
        copies = [RandomisedCopyd(pixdim, classes=classes, prob=randomise)] if randomise > 0 else []
        super().__init__([RandPatchd(wider, shrink), *copies, augmentation, cut, ToTargetd(classes)])
