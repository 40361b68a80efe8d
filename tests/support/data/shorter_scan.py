"""Images of scans that end before their grid does."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from torch import Tensor


def shorter_scan(image: Tensor, first: int, count: int, axis: int = 2) -> MetaTensor:
    """Return an image [1, H, W, D] on its grid whose scan has only `count` slices along an axis, from `first` on.

    Scan and grid have voxels of 1 mm.
    """
    affine, size = np.eye(4), [int(n) for n in image.shape[1:]]
    affine[axis, 3], size[axis] = first, count
    return MetaTensor(image, affine=np.eye(4), meta={"original_affine": affine, "spatial_shape": np.array(size)})
