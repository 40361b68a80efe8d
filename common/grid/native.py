"""A prediction on the network's grid, back on the voxels of the scan it was made for."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional as F

from ..imaging.uncertainty import normalized_entropy
from ..launch.words import truth

SLAB_VALUES = 2_000_000  # probabilities held at once; of more, most time goes into asking the system for memory
BLOCK = 48  # voxels of an edge: in most blocks of a scan few classes, or a single one, can be the largest
SPARE = 1e-4  # of a probability, that rounding may have cost


class ToNativeGridd(MapTransform):
    """Turn probabilities on the network's grid into a label map on the voxels that were loaded.

    The probabilities are interpolated linearly, then the largest wins; beyond the network's grid is background. Gives
    what `Invertd` and `AsDiscreted(argmax=True)` give, from the two affines alone. It is fast and small because it goes
    block by block, so that K volumes of native size never exist, interpolates axis by axis, and only those classes that
    can be the largest in a block: where all neighbours have the same one, linear interpolation can give nothing else.

    Args:
        keys: probabilities [K, H, W, D]; replaced by the label map [1, H', W', D'], uint8 (int32 for values over 255).
        label_values: value of each class in the label map, background first.
        image_key: image that the network saw: a MetaTensor with its own affine, and the file's `original_affine` and
            `spatial_shape` in its meta, as `LoadImaged` sets them.
        save_probabilities: add `probabilities` [K, H', W', D'], float32.
        save_uncertainty: add `uncertainty` [1, H', W', D'], their normalised entropy, float32 in [0, 1].
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_values: Sequence[int],
        image_key: str = "image",
        save_probabilities: bool = False,
        save_uncertainty: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_values, self.image_key = [int(value) for value in label_values], image_key
        self.probabilities_key = "probabilities" if truth("save_probabilities", save_probabilities) else None
        self.uncertainty_key = "uncertainty" if truth("save_uncertainty", save_uncertainty) else None

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        result = dict(data)
        image = result[self.image_key]
        size = tuple(int(n) for n in image.meta["spatial_shape"])[:3]
        affine = torch.as_tensor(image.meta["original_affine"], dtype=torch.float64, device="cpu")
        to_grid = torch.linalg.inv(image.affine.double().cpu()) @ affine
        for key in self.key_iterator(result):
            pred = result[key]
            pred = (pred.as_tensor() if isinstance(pred, MetaTensor) else pred).detach()
            for name, volume in self._restore(pred, to_grid, size).items():
                name = key if name == "label" else name
                result[name] = MetaTensor(volume, meta={**image.meta, "affine": affine})
        return result

    def _restore(self, pred: Tensor, to_grid: Tensor, size: tuple[int, ...]) -> dict[Hashable, Tensor]:
        kind = torch.uint8 if max(self.label_values) < 256 else torch.int32
        values = torch.tensor(self.label_values, dtype=kind, device=pred.device)
        # as it will lie in a file; to turn it then takes as long as to pack it
        label = torch.full((1, *size[::-1]), self.label_values[0], dtype=kind).permute(0, 3, 2, 1)
        result: dict[Hashable, Tensor] = {"label": label}
        wanted = [key for key in (self.probabilities_key, self.uncertainty_key) if key is not None]
        if not wanted:
            for block, classes, found in winners(pred, to_grid, size):
                label[0][tuple(block)] = values[classes[found.long()]].cpu()
            return result
        if self.probabilities_key is not None:
            result[self.probabilities_key] = torch.empty((pred.shape[0], *size))
        if self.uncertainty_key is not None:
            result[self.uncertainty_key] = torch.empty((1, *size))
        for slab in slabs([slice(0, n) for n in size], pred.shape[0]):
            probabilities = sample_probabilities(pred, to_grid, slab)  # [K, h, w, d]
            label[0][tuple(slab)] = values[largest(probabilities).long()].cpu()
            if self.probabilities_key is not None:
                result[self.probabilities_key][(slice(None), *slab)] = probabilities.cpu()
            if self.uncertainty_key is not None:
                result[self.uncertainty_key][0][tuple(slab)] = normalized_entropy(probabilities).cpu()
        return result


def largest(probabilities: Tensor) -> Tensor:
    """Return the class with the largest probability, [K, ...] -> [...], uint8 or int16; the first of equals."""
    best = probabilities[0].clone()
    found = torch.zeros_like(best, dtype=torch.uint8 if len(probabilities) <= 256 else torch.int16)
    for number, own in enumerate(probabilities[1:], start=1):  # torch's argmax takes 4 to 50 times as long on a CPU
        torch.maximum(found, (own > best).to(found.dtype).mul_(number), out=found)
        torch.maximum(best, own, out=best)
    return found


def winners(pred: Tensor, to_grid: Tensor, size: Sequence[int]) -> Iterator[tuple[list[slice], Tensor, Tensor]]:
    """Yield where on a native grid something else than background can be the largest, and what is, block by block.

    Args:
        pred: [K, H, W, D], probabilities on the network's grid.
        to_grid: [4, 4], native voxel to voxel of the network's grid.
        size: of the native grid, voxels.

    Yields:
        box of native voxels; classes [k]; which of these is the largest, [h, w, d] or, where it is one alone, [].
    """
    found = largest(pred).cpu()
    edges = [range(0, n, BLOCK) for n in size]
    for corner in product(*edges):
        block = [slice(start, min(start + BLOCK, n)) for start, n in zip(corner, size, strict=True)]
        near, inside = neighbours(to_grid, block, found.shape)
        least, most = (int(n) for n in found[near].aminmax())
        if most == 0:
            continue
        if least == most and inside:
            yield (
                block,
                torch.tensor([most], device=pred.device),
                torch.zeros((), dtype=torch.uint8, device=pred.device),
            )
            continue
        maps = pred[(slice(None), *near)]
        classes = possible(maps)
        moved = to_grid.clone()
        moved[:3, 3] -= torch.tensor([s.start for s in near], dtype=to_grid.dtype)
        maps = maps[classes].float()
        for slab in slabs(block, len(classes)):
            yield slab, classes, largest(sample_probabilities(maps, moved, slab))


def neighbours(to_grid: Tensor, block: Sequence[slice], size: Sequence[int]) -> tuple[tuple[slice, ...], bool]:
    """Return the box of a grid that a block of native voxels is interpolated from, and whether the grid reaches it all.

    Args:
        to_grid: [4, 4], native voxel to voxel of the grid.
        size: of the grid, voxels.
    """
    near, inside = [], True
    for row, n in zip(to_grid[:3].tolist(), size, strict=True):
        ends = [sorted((step * s.start, step * (s.stop - 1))) for step, s in zip(row[:3], block, strict=True)]
        low, high = (row[3] + sum(pair) for pair in zip(*ends, strict=True))
        inside = inside and low > -0.5 and high < n - 0.5
        start = min(max(math.floor(low), 0), n - 1)
        near.append(slice(start, max(min(math.floor(high) + 2, n), start + 1)))
    return tuple(near), inside


def possible(maps: Tensor) -> Tensor:
    """Return the classes [k], ascending, that can be the largest between voxels of maps [K, h, w, d]; background is in.

    The largest of all is nowhere below the K-th part of what all have together, nor below that part of the smallest
    largest one that falls to each class which is the largest somewhere.
    """
    maps = maps.flatten(1)
    best, found = maps.max(0)
    least = torch.maximum(maps.sum(0).min() / len(maps), best.min() / len(found.unique()))
    peaks = maps.amax(1)
    kept = (peaks > 0) & (peaks >= least - SPARE)
    kept[0] = True
    return kept.nonzero()[:, 0]


def slabs(box: Sequence[slice], classes: int) -> Iterator[list[slice]]:
    """Cut a box along its first axis into pieces of at most about SLAB_VALUES probabilities."""
    first, second, third = box
    plane = classes * (second.stop - second.start) * (third.stop - third.start)
    step = max(SLAB_VALUES // plane, 1)
    for start in range(first.start, first.stop, step):
        yield [slice(start, min(start + step, first.stop)), second, third]


def sample_probabilities(pred: Tensor, to_grid: Tensor, box: Sequence[slice]) -> Tensor:
    """Interpolate probabilities [K, H, W, D] at the native voxels of a box; background where the grid does not reach.

    A native voxel whose centre lies within the outer half of a border voxel counts as reached, so that an organ at the
    edge of the scan is not eaten away.

    Returns:
        [K, h, w, d], float32, summing to 1 over K.
    """
    order = matching_axes(to_grid, max(s.stop for s in box))
    if order is None:
        return _sample_oblique(pred, to_grid, box)
    result = pred.permute(0, *(axis + 1 for axis in order))
    for native in (0, 2, 1):  # the innermost axis is last but one: its result is the largest to read in rows
        steps = torch.arange(box[native].start, box[native].stop, dtype=torch.float64)
        position = steps * to_grid[order[native], native] + to_grid[order[native], 3]
        result = _interpolate(result, native + 1, position.float().to(pred.device))
    return result


def matching_axes(to_grid: Tensor, extent: int) -> list[int] | None:
    """Return which axis of the network's grid each native axis runs along; None where they part, as by a gantry tilt.

    Args:
        to_grid: [4, 4], native voxel to voxel of the network's grid.
        extent: voxels over which they may part by a hundredth of a voxel.
    """
    linear = to_grid[:3, :3].abs()
    order = linear.argmax(0).tolist()
    along = torch.zeros_like(linear)
    along[order, range(3)] = linear[order, range(3)]
    parallel = sorted(order) == [0, 1, 2] and float((linear - along).max()) * extent < 0.01
    return order if parallel else None


def _interpolate(maps: Tensor, axis: int, position: Tensor) -> Tensor:
    """Interpolate [K, ...] along one axis at positions [N] in voxels."""
    n = maps.shape[axis]
    low = position.floor().clamp(0, max(n - 2, 0))
    weight = (position - low).clamp(0, 1)
    low = low.long()
    shape = [-1 if a == axis else 1 for a in range(maps.ndim)]
    result = torch.lerp(
        maps.index_select(axis, low), maps.index_select(axis, (low + 1).clamp(max=n - 1)), weight.view(shape)
    )
    outside = is_outside(position, n).nonzero()[:, 0]
    if len(outside):
        result.index_fill_(axis, outside, 0.0)
        result[0].index_fill_(axis - 1, outside, 1.0)
    return result


def _sample_oblique(pred: Tensor, to_grid: Tensor, box: Sequence[slice]) -> Tensor:
    grid, outside = [], torch.zeros((), dtype=torch.bool, device=pred.device)
    for row, n in zip(to_grid[:3], pred.shape[1:], strict=True):
        axes = [
            torch.arange(s.start, s.stop, dtype=torch.float64, device=pred.device) * float(step)
            for s, step in zip(box, row[:3], strict=True)
        ]
        position = (axes[0][:, None, None] + axes[1][:, None] + (axes[2] + float(row[3]))).float()  # [h, w, d]
        outside = outside | is_outside(position, n)
        grid.append(position * (2 / max(n - 1, 1)) - 1)
    points = torch.stack(grid[::-1], dim=-1)[None]  # [1, h, w, d, 3], last axis first as grid_sample wants it
    sampled = F.grid_sample(pred[None], points, mode="bilinear", padding_mode="border", align_corners=True)[0]
    sampled.masked_fill_(outside, 0.0)
    sampled[0].masked_fill_(outside, 1.0)
    return sampled


def is_outside(position: Tensor, n: int) -> Tensor:
    """Return where positions along an axis of `n` voxels, in voxels, are not reached by it."""
    return (position < -0.501) | (position > n - 0.499)
