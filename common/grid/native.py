"""A prediction on the network's grid, back on the voxels of the scan it was made for."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional as F

from ..imaging.uncertainty import normalized_entropy, tempered
from ..launch.words import truth

SLAB_VALUES = 2_000_000  # probabilities held at once; of more, most time goes into asking the system for memory
BLOCK = (128, 64, 64)  # native voxels: in most blocks of a scan few classes, or a single one, can be the largest
SPARE = 1e-4  # of a probability, that rounding may have cost
ROUNDING = 1e-6  # of a probability, within which two count as equal
FINEST = 1 << 20  # parts of a voxel: two grids that share their voxels do so whatever their affines were rounded to


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
        temperature: asked for what their logarithms are divided by, in both; the label map stays. None: 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_values: Sequence[int],
        image_key: str = "image",
        save_probabilities: bool = False,
        save_uncertainty: bool = False,
        temperature: Callable[[], float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_values, self.image_key = [int(value) for value in label_values], image_key
        self.temperature = temperature or (lambda: 1.0)
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
            for block, found in winners(pred, to_grid, size, values):
                label[0][block] = found.cpu()
            return result
        if self.probabilities_key is not None:
            result[self.probabilities_key] = torch.empty((pred.shape[0], *size))
        if self.uncertainty_key is not None:
            result[self.uncertainty_key] = torch.empty((1, *size))
        temperature = self.temperature()
        for slab in slabs([slice(0, n) for n in size], pred.shape[0]):
            probabilities = sample_probabilities(pred, to_grid, slab)  # [K, h, w, d]
            label[0][tuple(slab)] = values[largest(probabilities).long()].cpu()
            probabilities = tempered(probabilities, temperature)
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


def winners(
    pred: Tensor, to_grid: Tensor, size: Sequence[int], values: Tensor
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """Yield where on a native grid something else than background can be the largest, and what is, block by block.

    Args:
        pred: [K, H, W, D], probabilities on the network's grid.
        to_grid: [4, 4], native voxel to voxel of the network's grid.
        size: of the native grid, voxels.
        values: [K], of the classes in a label map.

    Yields:
        box of native voxels; the values of those that are the largest, [h, w, d] or, where it is one alone, [].
    """
    found = largest(pred).cpu()
    order = matching_axes(to_grid, max(size))
    box = [slice(0, n) for n in size] if order is None else reached(to_grid, order, size, found.shape)
    for block in product(*(cut(s, edge) for s, edge in zip(box, BLOCK, strict=True))):
        near, inside = neighbours(to_grid, block, found.shape)
        least, most = (int(n) for n in found[near].aminmax())
        if most == 0:
            continue
        if least == most and inside:
            yield block, values[most]
            continue
        maps = pred[(slice(None), *near)]
        classes = possible(maps)
        moved = to_grid.clone()
        moved[:3, 3] -= torch.tensor([s.start for s in near], dtype=to_grid.dtype)
        maps, own = maps[classes].float(), values[classes]
        if order is not None:
            yield block, label_lines(maps, moved, order, block, own)
            continue
        for slab in slabs(block, len(classes)):
            yield tuple(slab), own[largest(sample_probabilities(maps, moved, slab)).long()]


def cut(whole: slice, edge: int) -> list[slice]:
    """Cut a range of voxels into pieces of a length, the last of what is left."""
    return [slice(start, min(start + edge, whole.stop)) for start in range(whole.start, whole.stop, edge)]


def reached(to_grid: Tensor, order: Sequence[int], size: Sequence[int], spatial_size: Sequence[int]) -> list[slice]:
    """Return the box of a native grid that the network's grid reaches; its axes match by `order`."""
    box = []
    for native, (axis, n) in enumerate(zip(order, size, strict=True)):
        inside = ~is_outside(_positions(to_grid, order, native, slice(0, n)), spatial_size[axis])
        known = inside.nonzero()[:, 0].tolist()
        box.append(slice(known[0], known[-1] + 1) if known else slice(0, 0))
    return box


def label_lines(maps: Tensor, to_grid: Tensor, order: Sequence[int], box: Sequence[slice], values: Tensor) -> Tensor:
    """Return which value is the largest at the native voxels of a box that the grid reaches, line by line.

    From one voxel of the grid to the next every class is linear along a line. Where the same one is the largest at both
    ends it is in between; else the first gives way to the second where the two cross, unless a third lies above both
    there: then the first gives way to the third, and that to the second. So probabilities are interpolated at the
    voxels of the grid along each line, and none at the many native ones between.

    Args:
        maps: [K, H, W, D], probabilities on the network's grid.
        to_grid: [4, 4], native voxel to voxel of the network's grid.
        order: see `matching_axes`.
        box: native voxels.
        values: [K], of the classes, of the result's dtype.

    Returns:
        [h, w, d]; its first axis, along which the lines run, is the last in memory.
    """
    device, (line, *_) = maps.device, box
    knots = line_knots(to_grid, order, line)
    maps = maps.permute(0, *(axis + 1 for axis in order[::-1]))  # [K, d, w, h]
    along = knots * to_grid[order[0], 0] + to_grid[order[0], 3]
    maps = _interpolate(maps, 3, along.float().to(device), edge=True)
    down, deep = (
        _interpolate(torch.eye(n, device=device), 0, _positions(to_grid, order, axis, box[axis]).to(device), edge=True)
        for n, axis in ((maps.shape[2], 1), (maps.shape[1], 2))
    )
    maps = down @ maps
    maps = (deep @ maps.flatten(2)).unflatten(2, maps.shape[2:])  # [K, d, w, knots]
    best, knots = largest(maps), knots.to(device)
    maps, count = maps.flatten(1), len(knots)
    steps = torch.zeros((*best.shape[:2], line.stop - line.start), dtype=values.dtype, device=device)
    steps[..., 0] = values[best[..., 0].long()]
    at = F.pad(best[..., 1:] != best[..., :-1], (0, 1)).flatten().nonzero()[:, 0]
    first, second = best.flatten()[at].long(), best.flatten()[at + 1].long()
    while len(at):
        near, far = maps.index_select(1, at), maps.index_select(1, at + 1)  # [K, n]
        ahead, behind = (ends.gather(0, first[None]) - ends.gather(0, second[None]) for ends in (near, far))
        crossing = ahead / (ahead - behind).clamp_min(torch.finfo(ahead.dtype).tiny)  # [1, n], 0 to 1
        there = torch.lerp(near, far, crossing)
        third = largest(there).long()
        above = (there.gather(0, third[None]) > there.gather(0, first[None]) + ROUNDING)[0]
        above &= (third != first) & (third != second)
        start, end = knots[at % count], knots[at % count + 1]
        place = torch.lerp(start, end, crossing[0].double())
        place = torch.where(second < first, place.ceil(), place.floor() + 1)  # the first of equals wins
        place = torch.minimum(place, end.ceil()).long() - line.start
        change = (values[second] - values[first]).masked_fill_(above, 0)
        steps.view(-1).index_add_(0, at // count * steps.shape[2] + place, change)
        at, first, second, third = (numbers[above] for numbers in (at, first, second, third))
        at, first, second = at.repeat(2), torch.cat([first, third]), torch.cat([third, second])
    return steps.cumsum(2, dtype=steps.dtype).permute(2, 1, 0)  # of uint8 modulo 256, and right again at the end


def line_knots(to_grid: Tensor, order: Sequence[int], line: slice) -> Tensor:
    """Return the ends of a line of native voxels and the grid's voxels between, or all its own if these are fewer.

    Returns:
        [n], float64, ascending, in native voxels of the first axis.
    """
    step, offset = float(to_grid[order[0], 0]), float(to_grid[order[0], 3])
    low, high = sorted((step * line.start + offset, step * (line.stop - 1) + offset))
    between = torch.arange(math.floor(low) + 1, max(math.ceil(high), math.floor(low) + 1), dtype=torch.float64)
    if len(between) + 2 >= line.stop - line.start:
        return torch.arange(line.start, line.stop, dtype=torch.float64)
    between = ((between - offset) / step * FINEST).round().div(FINEST).clamp(line.start, line.stop - 1).sort().values
    return F.pad(F.pad(between, (1, 0), value=line.start), (0, 1), value=line.stop - 1)


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
        result = _interpolate(result, native + 1, _positions(to_grid, order, native, box[native]).to(pred.device))
    return result


def _positions(to_grid: Tensor, order: Sequence[int], native: int, steps: slice) -> Tensor:
    """Return where the voxels along a native axis lie along the grid's own, in its voxels, float32 [n]."""
    voxels = torch.arange(steps.start, steps.stop, dtype=torch.float64)
    return (voxels * to_grid[order[native], native] + to_grid[order[native], 3]).float()


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


def _interpolate(maps: Tensor, axis: int, position: Tensor, edge: bool = False) -> Tensor:
    """Interpolate [K, ...] along one axis at positions [N] in voxels; beyond is background, or what the edge is."""
    n = maps.shape[axis]
    low = position.floor().clamp(0, max(n - 2, 0))
    weight = (position - low).clamp(0, 1)
    low = low.long()
    shape = [-1 if a == axis else 1 for a in range(maps.ndim)]
    result = torch.lerp(
        maps.index_select(axis, low), maps.index_select(axis, (low + 1).clamp(max=n - 1)), weight.view(shape)
    )
    outside = is_outside(position, n).nonzero()[:, 0]
    if len(outside) and not edge:
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
