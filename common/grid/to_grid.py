"""Volumes and label maps on a common grid, axis by axis, so that a whole-body scan costs no more than it weighs."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import compute_shape_offset, zoom_affine
from monai.transforms import MapTransform, ResizeWithPadOrCrop, Spacing
from scipy import ndimage
from torch import Tensor

from ..errors import InputError
from .field_of_view import describe_oversize, within
from .grid import Grid

# (values, float32, of a part of a scan [C, H, W, D]; where that part lies) -> other values of the same shape
Scale = Callable[[Tensor, tuple[slice, ...]], Tensor]
SLAB_VOXELS = 4_000_000  # turned into float32 at once
SHEAR = 1e-3  # cosine of the angle between two axes that still counts as a right one
BLUR = 0.42  # standard deviation of a Gaussian whose full width at half maximum is 1
BLOCK = 16  # voxels, by which no network makes an axis coarser than to 1
TRUNCATED = 3.0  # standard deviations


class ToGridd(MapTransform):
    """Bring an image [C, H, W, D], a RAS MetaTensor, to a grid: [C, *spatial_size], float32, with its new affine.

    It is smoothed as far as the step to a coarser spacing asks, interpolated linearly, then cropped around its centre
    or padded by its edge: what a Gaussian, MONAI's `Spacingd` and its `ResizeWithPadOrCropd` give, to 2e-6 of the
    range, as one matrix product an axis.

    Args:
        keys: images.
        grid: size in voxels and spacing in mm.

    Raises:
        InputError: a scan of a tilted gantry that has too many voxels at the grid's spacing.
    """

    def __init__(self, keys: KeysCollection, grid: Grid, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.grid = grid

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            way = self.find_way(result[key])
            result[key] = MetaTensor(self.bring(way, result[key].as_tensor()), affine=way.affine, meta=way.meta)
        return result

    def find_way(self, image: MetaTensor) -> WayToGrid:
        """Return how this scan comes to the grid."""
        return WayToGrid(image, self.grid.pixdim, self.grid.spatial_size)

    def bring(self, way: WayToGrid, values: Tensor) -> Tensor:
        """Return the values [C, H, W, D] of a scan on the grid."""
        return way.resample(values)


class LabelToGridd(ToGridd):
    """Bring a label map [1, H, W, D], a RAS MetaTensor, to a grid as the share of every class in each voxel.

    [K, *spatial_size], float32, summing to 1: the K-th class is the K-th of the grid's label values. Where the grid
    goes on beyond the scan nothing is known, and all classes are 0. Each class goes its way alone, within the box that
    it fills: K copies of the scan's size never exist.

    Args:
        keys: label maps of the grid's label values.
        grid: size in voxels, spacing in mm, values.
    """

    def bring(self, way: WayToGrid, values: Tensor) -> Tensor:
        """Return the classes of a label map [1, H, W, D] on the grid."""
        boxes = class_boxes(values[0])
        label = torch.ones((len(self.grid.label_values), *way.spatial_size), device=values.device)
        for number, value in enumerate(self.grid.label_values[1:], start=1):
            label[number] = way.resample_class(values, value, boxes)[0]
            label[0] -= label[number]
        label[0].clamp_min_(0)
        to_scan = torch.linalg.inv(way.native) @ way.affine
        return label.mul_(within(to_scan, way.spatial_size, values.shape[1:]).to(label.device))


class WayToGrid:
    """How the voxels of one scan become those of a grid.

    Args:
        image: [C, H, W, D], RAS, a MetaTensor with its affine.
        pixdim: of the grid, mm.
        spatial_size: of the grid, voxels; None: what the scan has at that spacing.
        whole: the grid grows where the scan is longer.

    Attributes:
        spatial_size: of the grid, voxels.
        affine: [4, 4], voxel of the grid to RAS mm.
        meta: of the scan, without its affine.
    """

    def __init__(
        self, image: MetaTensor, pixdim: Sequence[float], spatial_size: Sequence[int] | None, whole: bool = False
    ) -> None:
        self.meta = {key: value for key, value in image.meta.items() if key != "affine"}
        self.pixdim, self.native = tuple(pixdim), image.affine.double().cpu()
        shape, spacing = image.shape[1:], image.pixdim.tolist()
        self.ratios = [new / old for new, old in zip(pixdim, spacing, strict=True)]
        self.sheared = is_sheared(self.native)
        self.spaced = self.native.numpy() @ np.diag([*self.ratios, 1.0])  # of the scan at the grid's spacing
        counts: Sequence[int] = [count_voxels(n, ratio) for n, ratio in zip(shape, self.ratios, strict=True)]
        if self.sheared:
            self._require_room(shape)
            # leaves the axes of a tilted gantry for right-angled ones, as MONAI's Spacing does
            self.spaced = zoom_affine(self.native.numpy(), pixdim, diagonal=False)
            size, self.spaced[:3, 3] = compute_shape_offset(shape, self.native.numpy(), self.spaced)
            counts = [int(n) for n in size]
        wanted = counts if spatial_size is None else spatial_size
        self.spatial_size = whole_size(counts, wanted) if whole else tuple(wanted)
        firsts = [first_voxel(n, size) for n, size in zip(counts, self.spatial_size, strict=True)]
        step = np.eye(4)
        step[:3, 3] = firsts
        self.affine = torch.from_numpy(self.spaced @ step)
        self.matrices = [
            axis_matrix(*a) for a in zip(shape, self.ratios, counts, firsts, self.spatial_size, strict=True)
        ]

    def resample(self, maps: Tensor, scale: Scale | None = None, box: Sequence[slice] | None = None) -> Tensor:
        """Return maps [C, H, W, D] of the scan, of any kind of number, on the grid: [C, *spatial_size], float32.

        Args:
            scale: what becomes of the values before; asked for slab by slab, so that no copy of the scan exists.
            box: where the maps lie, in a scan that is 0 elsewhere; not for a sheared one. None: they fill it.
        """
        if self.sheared:
            every = (slice(None),) * 4
            return self._resample_sheared(maps if scale is None else scale(maps.to(torch.float32, copy=True), every))
        box = [slice(None)] * 3 if box is None else box
        lines = sorted(range(3), key=lambda axis: -maps.stride(axis + 1))  # as they lie in memory
        matrices = [self.matrices[axis][:, box[axis]] for axis in lines]
        order, back = [0, *(axis + 1 for axis in lines)], [0, *(lines.index(axis) + 1 for axis in range(3))]
        maps, scale = maps.permute(order), None if scale is None else _in_order(scale, order, back)
        # what shrinks most goes first
        for axis in sorted(range(3), key=lambda axis: matrices[axis].shape[0] / matrices[axis].shape[1]):
            maps, scale = along_axis(maps, matrices[axis], axis + 1, scale), None
        return maps.permute(back).contiguous()

    def resample_class(self, label: Tensor, value: int, boxes: Mapping[int, tuple[slice, ...]]) -> Tensor:
        """Return the share [1, *spatial_size] of a value of a label map [1, H, W, D] that fills a box of `boxes`."""
        if value not in boxes:
            return torch.zeros((1, *self.spatial_size), device=label.device)
        if self.sheared:
            return self.resample(label == value)
        return self.resample(label[(slice(None), *boxes[value])] == value, box=boxes[value])

    def _resample_sheared(self, maps: Tensor) -> Tensor:
        """Resample the scan as a whole: no axis goes alone."""
        for axis, ratio in enumerate(self.ratios):
            matrix = smoothing_matrix(maps.shape[axis + 1], ratio)
            maps = maps if matrix is None else along_axis(maps, matrix.float(), axis + 1)
        spaced = Spacing(self.pixdim, mode="bilinear", padding_mode="border")(
            MetaTensor(maps.float(), affine=self.native)
        )
        return ResizeWithPadOrCrop(self.spatial_size, mode="edge")(spaced).as_tensor()

    def _require_room(self, shape: Sequence[int]) -> None:
        problem = describe_oversize(shape, self.native.numpy(), self.pixdim)
        if problem is not None:
            raise InputError(f"{self.meta.get('filename_or_obj', 'the image')}: {problem}")


def is_sheared(affine: Tensor) -> bool:
    """Return whether the axes of a volume are no right-angled ones, as after a gantry tilt."""
    axes = affine[:3, :3].double().cpu()
    axes = axes / axes.norm(dim=0)
    return float((axes.T @ axes - torch.eye(3, dtype=torch.float64)).abs().max()) > SHEAR


def count_voxels(n: int, ratio: float) -> int:
    """Return how many voxels of `ratio` times the spacing n voxels are, as MONAI's Spacing counts."""
    return max(int(np.round((n - 1) / ratio + 1)), 1)


def first_voxel(count: int, size: int) -> int:
    """Return which of `count` voxels is the first of `size`, as MONAI's ResizeWithPadOrCrop cuts; below 0: padded."""
    return count // 2 - size // 2 if count > size else -((size - count) // 2)


def whole_size(counts: Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
    """Return the size of what a window slides over: its own, or whole blocks of it where there are more voxels."""
    blocks = [math.gcd(size, BLOCK) for size in window]
    return tuple(
        size if n <= size else -(-n // block) * block for n, size, block in zip(counts, window, blocks, strict=True)
    )


def axis_matrix(n: int, ratio: float, count: int, first: int, size: int) -> Tensor:
    """Return the matrix [size, n], float32, that takes one axis to the grid.

    Args:
        n: voxels of the scan along this axis.
        ratio: spacing of the grid over that of the scan.
        count: voxels of the grid's spacing in the scan.
        first: which of them is the grid's first.
        size: voxels of the grid.
    """
    return sampling_matrix((torch.arange(size, dtype=torch.float64) + first).clamp(0, count - 1) * ratio, n, ratio)


def sampling_matrix(position: Tensor, n: int, ratio: float) -> Tensor:
    """Return the matrix [size, n], float32, that smooths an axis of n voxels and takes it to positions [size] along it.

    Args:
        position: voxels; beyond the ends the outermost.
        ratio: spacing of what is wanted over that of the axis.
    """
    position = position.double().clamp(0, n - 1)
    low = position.floor().clamp(max=max(n - 2, 0)).long()
    weight = position - low
    matrix = torch.zeros((len(position), n), dtype=torch.float64)
    rows = torch.arange(len(position))
    matrix[rows, low] += 1 - weight
    matrix[rows, (low + 1).clamp(max=n - 1)] += weight
    smooth = smoothing_matrix(n, ratio)
    return (matrix if smooth is None else matrix @ smooth).float()


def between_grids(maps: Tensor, affine: Tensor, wanted: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Bring maps of one grid to another one of the same scan, whose axes are the same: [C, *spatial_size], float32.

    Args:
        maps: [C, H, W, D].
        affine: [4, 4], voxel of the maps to mm.
        wanted: [4, 4], voxel of the other grid to mm.
        spatial_size: of that, voxels.
    """
    step = torch.linalg.inv(affine.double().cpu()) @ wanted.double().cpu()
    for axis, size in enumerate(spatial_size):
        ratio = float(step[axis, axis])
        position = torch.arange(size, dtype=torch.float64) * ratio + step[axis, 3]
        maps = along_axis(maps, sampling_matrix(position, maps.shape[axis + 1], ratio), axis + 1)
    return maps.contiguous()


def smoothing_matrix(n: int, ratio: float) -> Tensor | None:
    """Return the [n, n] matrix, float64, of the Gaussian that stands for the average over a voxel of a coarser grid.

    Its full width is one new voxel less what an old voxel already blurs; the border value is repeated, since zeros from
    outside would darken it and take from a background. None: nothing to smooth.
    """
    sigma = BLUR * max(ratio**2 - 1, 0.0) ** 0.5  # in old voxels
    if sigma <= 0.05:
        return None
    reach = int(max(sigma * TRUNCATED, 0.5) + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    columns = (torch.arange(n)[:, None] + offsets).clamp(0, n - 1)  # [n, 2 * reach + 1]
    return torch.zeros((n, n), dtype=torch.float64).scatter_add_(1, columns, (kernel / kernel.sum()).expand(n, -1))


def _in_order(scale: Scale, order: Sequence[int], back: Sequence[int]) -> Scale:
    """Return a `Scale` for a scan whose axes have another order."""

    def scaled(values: Tensor, index: tuple[slice, ...]) -> Tensor:
        index = index + (slice(None),) * (4 - len(index))
        return scale(values.permute(back), tuple(index[axis] for axis in back)).permute(order)

    return scaled


def along_axis(maps: Tensor, matrix: Tensor, axis: int, scale: Scale | None = None) -> Tensor:
    """Return a matrix [m, n] times maps [..., n, ...] along one axis, float32, slab by slab; see `resample`."""
    if axis == maps.ndim - 1 and maps.numel() > SLAB_VOXELS and maps.is_contiguous():
        return _along_rows(maps, matrix, scale)
    before = (slice(None),) * axis
    maps = maps.movedim(axis, 0)  # [n, ...]
    rest = maps.shape[1:]
    step = max(SLAB_VOXELS // max(rest.numel(), 1), 1)
    result, matrix = torch.zeros((matrix.shape[0], rest.numel()), device=maps.device), matrix.to(maps.device)
    for start in range(0, maps.shape[0], step):
        slab = maps[start : start + step].to(torch.float32, copy=scale is not None)
        if scale is not None:
            slab = scale(slab.movedim(0, axis), (*before, slice(start, start + step))).movedim(axis, 0)
        part = matrix[:, start : start + step]
        used = part.any(1).nonzero()[:, 0].tolist()  # a voxel of the grid is made of few of the scan's
        rows = slice(used[0], used[-1] + 1) if used else slice(0, 0)
        result[rows].addmm_(part[rows], slab.reshape(-1, rest.numel()))
    return result.reshape(-1, *rest).movedim(0, axis)


def _along_rows(maps: Tensor, matrix: Tensor, scale: Scale | None) -> Tensor:
    """Return the same along the last axis of [C, H, W, D] as it lies in memory, plane by plane."""
    result, matrix = torch.empty((*maps.shape[:-1], matrix.shape[0]), device=maps.device), matrix.T.to(maps.device)
    for row in range(maps.shape[1]):
        index = (slice(None), slice(row, row + 1))
        slab = maps[index].to(torch.float32, copy=scale is not None)
        result[index] = (slab if scale is None else scale(slab, index)) @ matrix
    return result


def class_boxes(label: Tensor) -> dict[int, tuple[slice, ...]]:
    """Return the smallest box around each value above 0 of a label map [H, W, D] of whole numbers."""
    array = label.cpu().numpy()
    array = array.astype(np.int32) if array.dtype.kind == "f" else array
    lines = sorted(range(3), key=lambda axis: -array.strides[axis])  # as they lie in memory
    found = ndimage.find_objects(array.transpose(lines))
    return {
        value: tuple(box[lines.index(axis)] for axis in range(3))
        for value, box in enumerate(found, start=1)
        if box is not None
    }
