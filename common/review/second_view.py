"""A scan looked at twice: what a small turn and a change of scale change of the answer tells how good it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from monai.transforms import AffineGrid, Resample
from torch import Tensor

from ..grid.native import largest
from ..launch.words import truth
from ..tensors import plain
from ..training.world_transform import THICK, world_matrix

ANGLES = (0.12, -0.12, 0.15)  # radians
SCALE = 1.08  # of the body in the view, the inverse
# A client may build the inferer that it asks and that of the transforms apart, and MONAI Label imports this module anew
# in between: what is kept lies with the thread itself.
KEPT = "second_view"


class ReviewedInferer(Inferer):
    """Predict as another inferer does, and keep what the same network says of the scan a little turned and smaller.

    The second answer is kept for the thread that asked, until `take_second_view`. Of several images at once none is.

    Args:
        inferer: (image, network) -> log-probabilities.
        wanted: False looks once.

    __call__: (image [B, C, H, W, D], network) -> what `inferer` gives.
    """

    def __init__(self, inferer: Callable[..., Tensor], wanted: bool = True) -> None:
        super().__init__()
        self.inferer, self.wanted = inferer, truth("review", wanted)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        _keep(None)
        found = self.inferer(inputs, network, *args, **kwargs)
        if self.wanted and len(inputs) == 1:
            view = SecondView(inputs.shape[2:], spacing_of(network))
            again = self.inferer(view.turn(inputs[0])[None], network, *args, **kwargs)[0]
            _keep(view.turn_back(largest(again.detach())))
        return found


def take_second_view(size: Sequence[int]) -> Tensor | None:
    """Return the second answer for a volume of that size as classes [H, W, D], once; None where there is none."""
    labels: Tensor | None = vars(threading.current_thread()).get(KEPT)
    _keep(None)
    return labels if labels is not None and tuple(labels.shape) == tuple(size) else None


def _keep(labels: Tensor | None) -> None:
    vars(threading.current_thread())[KEPT] = labels


class SecondView:
    """Turn and scale a volume around its centre, by fixed amounts in mm, and label maps of it back.

    Axes of thick slices stay: nothing is known between them.

    Args:
        size: of the volume, voxels.
        pixdim: mm.
    """

    def __init__(self, size: Sequence[int], pixdim: Sequence[float]) -> None:
        spacing = np.asarray(pixdim, dtype=float)
        thick = spacing > THICK * spacing.min()
        self.size = tuple(int(n) for n in size)
        self.matrix = world_matrix(spacing, thick, np.asarray(ANGLES), np.where(thick, 1, SCALE), np.zeros(3))

    def turn(self, image: Tensor) -> Tensor:
        """Return the image [C, H, W, D] as it is seen; beyond it its edge is repeated."""
        resample = Resample(mode="bilinear", padding_mode="border", device=image.device)
        return plain(resample(plain(image).float(), grid=self._points(self.matrix)))

    def turn_back(self, classes: Tensor) -> Tensor:
        """Return classes [H, W, D] of what was seen on the voxels of the image; beyond is background."""
        resample = Resample(mode="nearest", padding_mode="zeros", device=classes.device)
        return plain(resample(classes[None].float(), grid=self._points(np.linalg.inv(self.matrix))))[0].to(classes)

    def _points(self, matrix: np.ndarray) -> Tensor:
        return plain(AffineGrid(affine=torch.from_numpy(matrix), dtype=torch.float32)(spatial_size=self.size)[0])


def spacing_of(network: Any) -> list[float]:
    """Return the spacing, mm, of what a network is given: that of its finest level; 1 where it says nothing."""
    pixdim = getattr(getattr(network, "fine", network), "pixdim", None)
    return [1.0] * 3 if pixdim is None else [float(p) for p in pixdim]
