"""Prediction of volumes: whole, in windows, or whole with small affine test-time augmentations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from torch import Tensor

from ..launch.words import optional, per_axis, truth
from ..levels.windows import TOGETHER, to_probabilities, windowed
from ..precision import bf16_autocast
from ..registration.fields import total_ddf, warp

LEAST = 1e-7  # probability


class AffineTTAInferer(Inferer):
    """Predict a volume as it is and in `views` slightly turned, scaled, shifted forms, and average the probabilities.

    The transformations are fixed (a seeded draw), so the same input gives the same output. A volume that fits the
    network's window is seen at once, as in training.

    Args:
        views: number of additional passes; 0 predicts once.
        rotation: largest angle about each axis, degrees.
        scale: largest change of scale.
        shift: largest translation, voxels.
        seed: of the draw.
        amp: bfloat16 autocast; None follows the device.

    __call__: (image [B, C, H, W, D], network) -> log-probabilities [B, K, H, W, D], float32.
    """

    def __init__(
        self,
        views: int = 0,
        rotation: float = 10.0,
        scale: float = 0.1,
        shift: float = 2.0,
        seed: int = 0,
        amp: bool | None = None,
    ) -> None:
        super().__init__()
        self.views, self.rotation, self.scale, self.shift = views, rotation, scale, shift
        self.seed, self.amp = seed, _amp(amp)

    def matrices(self) -> list[Tensor]:
        """Return the [3, 4] affine of each additional view, in centred voxel coordinates."""
        generator = torch.Generator().manual_seed(self.seed)
        found = []
        for _ in range(self.views):
            draw = 2 * torch.rand(9, generator=generator) - 1
            turned = torch.eye(3)
            for axis in range(3):
                angle = math.radians(self.rotation) * float(draw[axis])
                c, s = math.cos(angle), math.sin(angle)
                turn = torch.eye(3)
                i, j = [k for k in range(3) if k != axis]
                turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
                turned = turned @ turn
            linear = turned @ torch.diag(1 + self.scale * draw[3:6])
            found.append(torch.cat([linear, self.shift * draw[6:9, None]], dim=1))
        return found

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        image = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        size = tuple(image.shape[2:])

        def probabilities(x: Tensor) -> Tensor:
            with bf16_autocast(image.device, self.amp):
                logits = network(x, *args, **kwargs)
            return to_probabilities(logits)

        total = scan_probabilities(image, network, probabilities)
        for matrix in self.matrices():
            forward = matrix.to(image.device)[None].expand(image.shape[0], -1, -1)
            linear = torch.linalg.inv(forward[:, :, :3])
            backward = torch.cat([linear, -linear @ forward[:, :, 3:]], dim=2)
            view = warp(image, total_ddf(forward, None, size))
            total = total + warp(scan_probabilities(view, network, probabilities), total_ddf(backward, None, size))
        return (total / (1 + self.views)).clamp_min_(LEAST).log_()


class VolumeInferer(Inferer):
    """Predict a volume at once, or window by window where it is larger than what the network sees (`windowed`).

    Args:
        roi_size: voxels of a window, cut to the volume where it is smaller; None: the network's own (`window`).
        overlap: share of a window that the next one covers again.
        batch_size: windows at once.
        amp: bfloat16 autocast; None follows the device.

    __call__: (image [B, C, H, W, D], network) -> log-probabilities [B, K, H, W, D], float32.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | None = None,
        overlap: float = 0.5,
        batch_size: int = TOGETHER,
        amp: bool | None = None,
    ) -> None:
        super().__init__()
        self.roi_size = per_axis("roi_size", roi_size, whole=True)
        self.overlap, self.batch_size, self.amp = overlap, batch_size, _amp(amp)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        image = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs

        def probabilities(x: Tensor) -> Tensor:
            with bf16_autocast(image.device, self.amp):
                logits = network(x, *args, **kwargs)
            return to_probabilities(logits)

        if self.roi_size is None:
            found = scan_probabilities(image, network, probabilities, self.overlap, self.batch_size)
        else:
            window = [min(n, size) for n, size in zip(self.roi_size, image.shape[2:], strict=True)]
            found = sliding_window_inference(image, window, self.batch_size, probabilities, self.overlap)
        return found.clamp_min_(LEAST).log_()


def scan_probabilities(
    image: Tensor, network: Any, predictor: Callable[[Tensor], Tensor], overlap: float = 0.5, batch_size: int = TOGETHER
) -> Tensor:
    """Return the probabilities of an image [B, C, H, W, D], in windows where it is larger than the network's own."""
    window = getattr(network, "window", None)
    if not window:  # a network of two levels looks for itself, and one that is none of ours says nothing
        return predictor(image)
    return windowed(image, predictor, window, overlap, batch_size)


def _amp(word: Any) -> bool | None:
    """Return whether to use bfloat16, None where the device decides."""
    return None if optional(word) is None else truth("amp", word)
