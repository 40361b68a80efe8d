"""The way of images and labels to the grid, as MONAI's transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    MapTransform,
    Orientationd,
)

from ..errors import InputError
from ..learning.partial import known_classes
from ..volumes.image_reader import LoadImageVolumed
from ..volumes.label import LoadLabelVolumed
from ..volumes.volume import find_no_contrast
from .grid import Grid
from .intensity import ImageToFinestd, ImageToGridd
from .to_grid import LabelToGridd


class RequireContrastd(MapTransform):
    """Refuse an image [C, H, W, D] with a channel of NaN or Inf, or of one value alone; the item is left as it is.

    Raises:
        InputError: one line that names the file and what was found.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            for channel in data[key].cpu().numpy():
                problem = find_no_contrast(channel)
                if problem is not None:
                    raise InputError(f"{data[key].meta.get('filename_or_obj', 'the image')}: {problem}")
        return dict(data)


class ImagePreprocessing(Compose):
    """`image`, a path, as the network sees it: [C, H, W, D] on the grid, RAS, intensities in [0, 1], float32.

    Args:
        grid: of the network.
        percentiles: of the intensities of what was scanned that become 0 and 1 in a channel for which the grid has no
            range; what lies beyond is clipped.
    """

    resample: type[ImageToGridd] = ImageToGridd

    def __init__(self, grid: Grid, percentiles: Sequence[float] = (1, 99)) -> None:
        self.grid, self.percentiles = grid, [float(p) for p in percentiles]
        super().__init__(
            [
                LoadImageVolumed("image", ensure_channel_first=False, channels=grid.channels, as_stored=True),
                EnsureChannelFirstd("image"),  # apart: MONAI Deploy leaves out what loads, and has no channel then
                EnsureTyped("image"),
                RequireContrastd("image"),
                Orientationd("image", axcodes="RAS", labels=None),
                self.resample("image", grid, self.percentiles),
            ]
        )


class ScanPreprocessing(ImagePreprocessing):
    """`image`, a path, as a trained model is given it: the whole scan at the spacing of the finest level, never cut.

    [C, H, W, D], RAS, intensities in [0, 1], float32; where a single window takes all of it, what `ImagePreprocessing`
    gives.
    """

    resample = ImageToFinestd


class KnownClassesd(MapTransform):
    """Turn `known_labels`, where an item has some, into `known`, bool [K]: the classes that its label tells about.

    Args:
        label_values: value of each class, background first.
    """

    def __init__(self, label_values: Sequence[int]) -> None:
        super().__init__("known_labels", allow_missing_keys=True)
        self.label_values = [int(value) for value in label_values]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        given = result.pop("known_labels", None)
        return result if given is None else {**result, "known": known_classes(given, self.label_values)}


class LabelPreprocessing(Compose):
    """`label`, a path, as probabilities [K, H, W, D] on the grid, float32; an item without a label passes.

    `known_labels` become `known`, see `KnownClassesd`; background is then whatever is none of these structures.

    Args:
        grid: of the network; K is the number of its label values.
    """

    def __init__(self, grid: Grid) -> None:
        missing = {"allow_missing_keys": True}
        super().__init__(
            [
                LoadLabelVolumed("label", **missing),
                Orientationd("label", axcodes="RAS", labels=None, **missing),
                LabelToGridd("label", grid, **missing),
                KnownClassesd(grid.label_values),
            ]
        )


class WithLabel(Compose):
    """`image` as the network sees it, and `label` [1, H, W, D] int32 on the voxels of its file, to score by.

    `known_labels`, where an item has some, as a tensor [n]: a loader can't put lists together.

    Args:
        image: of the image, see `ImagePreprocessing`.
    """

    def __init__(self, image: Compose) -> None:
        label = EnsureTyped("label", dtype=torch.int32)
        known = EnsureTyped("known_labels", dtype=torch.int32, track_meta=False, allow_missing_keys=True)
        super().__init__([image, LoadLabelVolumed("label"), label, known])
