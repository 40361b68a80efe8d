"""Probabilities of a volume that may be larger than what a network sees at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import prod

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from torch import Tensor
from torch.nn.functional import pad

from ..grid.to_grid import whole_size

AT_ONCE = 1.5  # windows' worth of voxels that are still seen as one: what a window would cut is worth more
LARGE = 250_000_000  # numbers, 1 GB in float32, of which no two copies are made
SIGMA = 0.125  # of the Gaussian by which windows are weighted, windows
# windows at once: to a single small one PyTorch gives its slow convolution on a CPU, to two oneDNN's
TOGETHER = 2

Predictor = Callable[[Tensor], Tensor]


def windowed(
    image: Tensor, predictor: Predictor, window: Sequence[int], overlap: float = 0.5, batch_size: int = TOGETHER
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
    if seen_at_once(image.shape[2:], window):
        return predictor(image)
    return sliding_window_inference(
        image, tuple(window), batch_size, predictor, overlap, mode="gaussian", padding_mode="replicate"
    )


def windowed_rows(
    image: Tensor, predictor: Predictor, window: Sequence[int], overlap: float
) -> Iterator[tuple[slice, Tensor]]:
    """Yield what `windowed` gives for one image, row by row of windows, so that it never exists twice.

    Args:
        image: [1, C, H, W, D].
        predictor, window, overlap: see `windowed`.

    Yields:
        rows of the image, probabilities [1, K, h, W, D], float32; overwritten when the next ones are asked for. What is
        seen at once is padded to whole blocks: a body's steps don't divide every size.
    """
    size, window = image.shape[2:], tuple(window)
    image, inner = _padded(image, whole_size(size, window) if seen_at_once(size, window) else window)
    if seen_at_once(size, window):
        yield slice(0, size[0]), predictor(image)[(slice(None), slice(None), *inner)]
        return
    steps = [w if n == w else max(int(w * (1 - overlap)), 1) for n, w in zip(image.shape[2:], window, strict=True)]
    places = dense_patch_slices(image.shape[2:], window, steps)
    weight = compute_importance_map(window, mode="gaussian", sigma_scale=SIGMA, device=image.device)
    total, first = torch.empty(0), 0
    share = torch.zeros((window[0], *image.shape[3:]), device=image.device)
    for start, group in groupby(places, key=lambda place: place[0].start):
        if start > first:  # what lies before this row is done
            yield _rows(total, share, first, start, inner)
            _move_up(total, start - first)
            _move_up(share[None, None], start - first)
            first = start
        row = list(group)
        for several in (row[n : n + TOGETHER] for n in range(0, len(row), TOGETHER)):
            found = predictor(torch.cat([image[(slice(None), slice(None), *place)] for place in several]))
            if not total.numel():
                total = torch.zeros((1, found.shape[1], *share.shape), device=image.device)
            for place, one in zip(several, found.mul_(weight), strict=True):
                total[(0, ..., *place[1:])] += one
                share[(..., *place[1:])] += weight
    yield _rows(total, share, first, image.shape[2], inner)


def _padded(image: Tensor, least: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """Return an image [1, C, H, W, D] of at least a size, repeating its edge, and where in that it lies."""
    missing = [max(w - n, 0) for w, n in zip(least, image.shape[2:], strict=True)]
    inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, image.shape[2:], strict=True))
    return pad(image, [n for m in reversed(missing) for n in (m // 2, m - m // 2)], mode="replicate"), inner


def _rows(total: Tensor, share: Tensor, start: int, stop: int, inner: tuple[slice, ...]) -> tuple[slice, Tensor]:
    """Return which rows of the image, without its padding, those from start to stop are, and their probabilities."""
    low, high = max(start, inner[0].start), min(stop, inner[0].stop)
    rows = slice(low - start, high - start)
    found = total[(slice(None), slice(None), rows, *inner[1:])].div_(share[(rows, *inner[1:])])
    return slice(low - inner[0].start, high - inner[0].start), found


def _move_up(rows: Tensor, count: int) -> None:
    """Forget so many rows of [1, K, h, W, D], and begin as many new ones."""
    rows[:, :, : rows.shape[2] - count] = rows[:, :, count:].clone()
    rows[:, :, rows.shape[2] - count :] = 0


def seen_at_once(size: Sequence[int], window: Sequence[int]) -> bool:
    """Return whether an image of a size is not cut into windows."""
    return all(n >= w for n, w in zip(size, window, strict=True)) and prod(size) <= AT_ONCE * prod(window)


def to_probabilities(logits: Tensor) -> Tensor:
    """Return the softmax of logits [B, K, H, W, D], float32; of many in their own memory and kind of number."""
    if logits.numel() < LARGE or logits.dtype not in (torch.float16, torch.float32):
        return torch.softmax(logits.float(), dim=1)
    for row in logits.split(1, dim=2):
        row.copy_(torch.softmax(row.float(), dim=1))
    return logits


def probabilities(network: Callable[[Tensor], Tensor]) -> Predictor:
    """Return the predictor of a network's class probabilities, float32."""

    def predict(image: Tensor) -> Tensor:
        return torch.softmax(network(image).float(), dim=1)

    return predict
