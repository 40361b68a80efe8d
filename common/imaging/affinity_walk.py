"""A random walk that spreads maps along what looks alike, without the matrix of all pairs of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from ..errors import InputError

Offset = tuple[int, int, int]

FOREGROUND_SHARE = 0.05  # of the intensity range: darker voxels are air or padding


def half_offsets(radius: int = 2, axis: int = 2, between: int = 1) -> list[Offset]:
    """Return one offset (voxels along H, W, D) for each pair of neighbours, in-plane ones first.

    In a slice: those shorter than `radius`, one half of the disc (4 for radius 2, 34 for radius 5, the published
    form). Between slices up to `between` apart: the nine at most one voxel away in-plane. Radius 2 and 1 between make
    the 26 neighbours of a voxel.

    Args:
        radius: voxels, at least 2 for a walk within slices.
        axis: slice axis, 0, 1 or 2.
        between: 0 keeps the slices apart.

    Raises:
        InputError: no such axis, or no offset at all.
    """
    if axis not in (0, 1, 2):
        raise InputError(f"half_offsets: found axis {axis}, wanted 0, 1 or 2")
    reach = range(-radius + 1, radius)
    disc = [(y, x) for y, x in product(reach, reach) if (y, x) > (0, 0) and y * y + x * x < radius * radius]
    near = list(product((-1, 0, 1), repeat=2))
    offsets = [_insert(y, x, 0, axis) for y, x in disc]
    offsets += [_insert(y, x, z, axis) for z in range(1, between + 1) for y, x in near]
    if not offsets:
        raise InputError(f"half_offsets: found radius {radius} and between {between}, wanted a neighbour at least")
    return offsets


def _insert(y: int, x: int, z: int, axis: int) -> Offset:
    offset = [y, x]
    offset.insert(axis, z)
    return (offset[0], offset[1], offset[2])


def intensity_guide(image: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return the image in units of its own standard deviation, the guide on which `edge_weights` takes beta 3.

    Args:
        image: [1, H, W, D] in [0, 1].
        inside: where the deviation is taken, bool [1, H, W, D]; None: where the image is brighter than 0.05.

    Returns:
        float32, same shape.
    """
    image = image.as_subclass(Tensor).float()
    inside = image > FOREGROUND_SHARE if inside is None else inside.as_subclass(Tensor).bool()
    values = image[inside] if int(inside.sum()) > 1 else image.flatten()
    return image / values.std().clamp_min(1e-3)  # a constant image stays a constant


def edge_weights(
    guide: Tensor,
    offsets: Sequence[Offset],
    beta: float = 3.0,
    reduce: str = "mean",
    pixdim: Sequence[float] = (1.0, 1.0, 1.0),
    sigma_mm: float | Sequence[float | None] | None = None,
    allowed: Tensor | None = None,
    legacy_border: bool = False,
) -> Tensor:
    """Return how alike the two ends of each edge are, exp(-beta |difference|), in (0, 1]; 0 where there is no edge.

    Args:
        guide: [C, H, W, D], what is compared: `intensity_guide`, or mask channels of a SAM.
        offsets: of `half_offsets`.
        beta: steepness; 0 makes the walk a plain blur.
        reduce: "mean" or "sum" of |difference| over the channels.
        pixdim: voxel size, mm.
        sigma_mm: links that span d mm are also weakened by exp(-(d / sigma)^2); one number, or one an axis with None
            where distance does not count ([None, None, 3.0]: between slices alone); None: nowhere.
        allowed: bool [1, H, W, D]; an edge needs both ends in it.
        legacy_border: edges start only at voxels from which every offset stays inside, as in the published code, which
            leaves the border with few neighbours.

    Returns:
        [n_offsets, H, W, D] float32 at the voxel where an edge starts.

    Raises:
        InputError: another guide or another `reduce`.
    """
    if guide.ndim != 4 or not guide.is_floating_point():
        raise InputError(
            f"edge_weights: found a guide of {guide.dtype} {tuple(guide.shape)}, wanted floating [C, H, W, D]"
        )
    if reduce not in ("mean", "sum"):
        raise InputError(f"edge_weights: found reduce {reduce!r}, wanted 'mean' or 'sum'")
    guide = guide.as_subclass(Tensor).float()
    size = guide.shape[1:]
    sigmas = [sigma_mm] * 3 if sigma_mm is None or isinstance(sigma_mm, (int, float)) else list(sigma_mm)
    weights = guide.new_zeros(len(offsets), *size)
    for weight, offset in zip(weights, offsets, strict=True):
        here, there = _ends(offset, size)
        difference = (guide[(slice(None), *here)] - guide[(slice(None), *there)]).abs()
        difference = difference.mean(0) if reduce == "mean" else difference.sum(0)
        steps = zip(offset, pixdim, sigmas, strict=True)
        distance = sum((step * spacing / sigma) ** 2 for step, spacing, sigma in steps if sigma is not None)
        edge = torch.exp(-beta * difference - distance)
        if allowed is not None:
            edge = edge * allowed[0][here] * allowed[0][there]
        weight[here] = edge
    if legacy_border:
        weights *= _starts(offsets, size).to(weights)
    return weights


def walk(
    maps: Tensor,
    weights: Tensor,
    offsets: Sequence[Offset],
    steps: int = 10,
    restart: float = 0.1,
    averaging: bool = True,
    rescale: bool = False,
) -> Tensor:
    """Let each voxel take over what its neighbours say, `steps` times; a voxel is its own neighbour with weight 1.

    Args:
        maps: [P, H, W, D].
        weights: of `edge_weights`, with its offsets.
        restart: share of the maps that is mixed in again after each step.
        averaging: a voxel becomes the weighted mean of its neighbours, which keeps a constant map constant. False is
            the published form: each voxel hands out its own value in shares, which keeps the sum.
        rescale: to [0, 1] after each step, as published: each map, or each slice of it where no offset leaves a slice.

    Returns:
        [P, H, W, D] float32.

    Raises:
        InputError: shapes of maps, weights and offsets that don't belong together.
    """
    size = tuple(maps.shape[1:])
    if maps.ndim != 4 or tuple(weights.shape) != (len(offsets), *size):
        raise InputError(
            f"walk: found maps {tuple(maps.shape)}, weights {tuple(weights.shape)} and {len(offsets)} offsets, "
            "wanted [P, H, W, D], [n_offsets, H, W, D] and n_offsets"
        )
    start = maps.as_subclass(Tensor).float().flatten(1)
    edges = weights.flatten(1)
    # in memory an offset is one shift; where it would run over an edge of the volume its weight is 0
    shifts = [(y * size[1] + x) * size[2] + z for y, x, z in offsets]
    degree = _spread(torch.ones_like(start[:1]), edges, shifts)
    moved = sorted({axis for offset in offsets for axis in range(3) if offset[axis]})
    current = start.clone()
    for _ in range(steps):
        if averaging:
            current = _spread(current, edges, shifts).div_(degree)
        else:
            current = _spread(current / degree, edges, shifts)
        if restart:
            current = torch.lerp(current, start, restart)
        if rescale:
            current = _min_max(current.unflatten(1, size), [axis + 1 for axis in moved]).flatten(1)
    return current.unflatten(1, size)


def _spread(maps: Tensor, edges: Tensor, shifts: Sequence[int]) -> Tensor:
    """Sum maps [P, N] over each voxel itself and, weighted, over both ends of its edges."""
    total, count = maps.clone(), maps.shape[1]
    for edge, shift in zip(edges, shifts, strict=True):
        here = slice(max(-shift, 0), max(count - max(shift, 0), 0))
        there = slice(max(shift, 0), max(count + min(shift, 0), 0))
        if here.start < here.stop:
            total[:, here].addcmul_(edge[here], maps[:, there])
            total[:, there].addcmul_(edge[here], maps[:, here])
    return total


def _ends(offset: Offset, size: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the edges of an offset that stay in the volume start, and where they end."""
    here = tuple(slice(max(-step, 0), max(n - max(step, 0), 0)) for step, n in zip(offset, size, strict=True))
    there = tuple(slice(max(step, 0), max(n + min(step, 0), 0)) for step, n in zip(offset, size, strict=True))
    return here, there


def _starts(offsets: Sequence[Offset], size: Sequence[int]) -> Tensor:
    starts = torch.zeros(tuple(size), dtype=torch.bool)
    low = [max(0, -min(steps)) for steps in zip(*offsets, strict=True)]
    high = [n - max(0, *steps) for n, steps in zip(size, zip(*offsets, strict=True), strict=True)]
    starts[tuple(slice(a, max(b, a)) for a, b in zip(low, high, strict=True))] = True
    return starts


def _min_max(maps: Tensor, axes: Sequence[int]) -> Tensor:
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-6)
