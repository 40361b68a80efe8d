"""Probabilities of a volume that may be larger than what a network sees at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

AT_ONCE = 1.5  # windows' worth of voxels that are still seen as one: what a window would cut is worth more

Predictor = Callable[[Tensor], Tensor]


def windowed(
    image: Tensor, predictor: Predictor, window: Sequence[int], overlap: float = 0.5, batch_size: int = 1
) -> Tensor:
    """Return what a predictor gives for an image [B, C, H, W, D]: at once, or window by window where it is larger.

    Windows are weighted by a Gaussian, so that what one sees at its edge counts least. All numbers of a window that
    lie outside of the image repeat its edge.

    Args:
        predictor: windows [N, C, h, w, d] -> probabilities [N, K, h, w, d].
        window: voxels.
        overlap: share of a window that the next one covers again.
        batch_size: windows at once.
    """
    size = image.shape[2:]
    if all(n >= w for n, w in zip(size, window, strict=True)) and prod(size) <= AT_ONCE * prod(window):
        return predictor(image)
    return sliding_window_inference(
        image, tuple(window), batch_size, predictor, overlap, mode="gaussian", padding_mode="replicate"
    )


def probabilities(network: Callable[[Tensor], Tensor]) -> Predictor:
    """Return the predictor of a network's class probabilities, float32."""

    def predict(image: Tensor) -> Tensor:
        return torch.softmax(network(image).float(), dim=1)

    return predict
