"""Choice of the grid from the headers of a data set: spacing and steps of each axis, field of view, levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import nibabel
import numpy as np

from ..errors import InputError
from ..volumes.read import read_geometry
from .grid import Grid, Level, Range, make_grid, make_level, make_ranges

THICK = 2.0  # times the finest spacing: an axis of such slices is not made coarser together with the others
KEPT = 0.6  # share of the wanted spacing from which on thick slices stay as they are
SMALLEST = 4  # voxels that an axis keeps after all steps
COARSE = 3.0  # mm, up to which small organs survive a grid (docs/clinical.md)
WORTH = 1.5  # times the scans' own spacing: a finer level has to bring at least this much
FINER = 4.0  # times that a second level is finer than the first
OUTLIER = 1.25  # times the median extent that is no outlier, however alike all others are
ALIKE = 1.25  # times a spacing that is not worth resampling for


def ras_geometry(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (shape in voxels, spacing in mm) of a volume along the right-left, posterior-anterior and axial axes."""
    shape, affine = read_geometry(path)
    order = np.argsort(nibabel.io_orientation(affine)[:, 0])
    return np.asarray(shape)[order], np.sqrt((affine[:3, :3] ** 2).sum(0))[order]


def plan_grid(
    cases: Sequence[Mapping[str, Any]],
    label_values: Iterable[int],
    spatial_size: Sequence[int] | None = None,
    pixdim: Sequence[float] | None = None,
    max_voxels: int = 98304,
    divisor: int = 8,
    strides: Sequence[Any] | None = None,
    levels: int | None = None,
    fine_pixdim: Sequence[float] | None = None,
    intensity_range: Sequence[Range | None] | None = None,
    model: Grid | None = None,
) -> Grid:
    """Choose the grid that every volume is brought to, from image headers alone.

    Its first level spans the scans, outliers aside, with the finest spacing (never finer than the median scan's) at
    which it has about `max_voxels` voxels; what thick slices can't use, the plane gets. Where that is coarse and the
    scans are finer, a second level of windows is planned, `FINER` times as fine. What is given is kept.

    Args:
        cases: items with the key `image` (path).
        label_values: of the classes, background first.
        spatial_size: voxels along the RAS axes, each a multiple of the steps of its axis; None to choose.
        pixdim: mm; None to choose.
        max_voxels: of each level's window, about.
        divisor: by which all steps together make an axis coarser, at most; a power of two.
        strides: of each step, one number or one an axis; None to choose.
        levels: 1 or 2; None: 2 where that brings something, and neither size nor spacing is given.
        fine_pixdim: of the second level, mm; None to choose.
        intensity_range: of each channel, see `Grid`; None: that of the model, else percentiles of one channel.
        model: grid of a model whose training goes on: size and spacing are kept. None: a new model.

    Raises:
        InputError: a size, spacing or range that is given and not the model's.
    """
    ranges = None if intensity_range is None else make_ranges(intensity_range)
    if model is not None:
        _require_model(model, spatial_size, pixdim, ranges)
        return make_grid(
            model.spatial_size, model.pixdim, label_values, model.strides, model.fine, model.intensity_range
        )
    geometry = [ras_geometry(case["image"]) for case in cases]
    extent = robust_extent([shape * spacing for shape, spacing in geometry])
    native = np.median([spacing for _, spacing in geometry], axis=0)
    steps = None if strides is None else _per_axis(strides)
    first = _first_level(extent, native, spatial_size, pixdim, max_voxels, divisor, steps)
    planned = spatial_size is None and pixdim is None
    two = fine_pixdim is not None or (planned and _pays(first, native)) if levels is None else levels == 2
    fine = None
    if two:
        spacing = _finer(first, native) if fine_pixdim is None else np.asarray(fine_pixdim, dtype=float)
        shrink = divisor if steps is None else int(np.prod(steps, axis=0).max())
        fine = _window(extent, spacing, max_voxels, shrink)
    return make_grid(first.spatial_size, first.pixdim, label_values, first.strides, fine, ranges or (None,))


def agreed_level(
    spatial_size: Sequence[int],
    pixdim: Sequence[float] | np.ndarray,
    divisor: int = 8,
    strides: Sequence[Any] | None = None,
) -> Level:
    """Return the first level that `plan_grid` makes of a size and a spacing, both given: no scan is looked at."""
    spacing = np.asarray(pixdim, dtype=float)
    steps = _dividing(spatial_size, spacing, divisor) if strides is None else _per_axis(strides)
    return make_level(spatial_size, spacing, steps)


def robust_extent(extents: Sequence[np.ndarray]) -> np.ndarray:
    """Return what a grid has to span along each axis, mm: the largest extent that is no outlier.

    An outlier lies above the upper quartile by more than 1.5 times the distance of the quartiles, and above `OUTLIER`
    times the median: one scan of the whole body among many of the abdomen makes no case coarser.
    """
    values = np.asarray(extents, dtype=float)
    lower, middle, upper = np.percentile(values, [25, 50, 75], axis=0)
    fence = np.maximum(upper + 1.5 * (upper - lower), OUTLIER * middle)
    return np.where(values <= fence, values, 0.0).max(axis=0)


def plan_strides(
    size: Sequence[float] | np.ndarray, pixdim: Sequence[float] | np.ndarray, divisor: int
) -> tuple[tuple[int, ...], ...]:
    """Return the steps of a body, log2(divisor) of them, that make a window nearly isotropic before all axes shrink.

    An axis whose spacing is over `THICK` times the finest one waits, and so does one that would fall below `SMALLEST`
    voxels (the rule of nnU-Net's planner, Isensee et al. 2021).

    Args:
        size: voxels.
        pixdim: mm.
        divisor: by which an axis becomes coarser, at most.
    """
    voxels, spacing, steps = np.array(size, dtype=float), np.array(pixdim, dtype=float), []
    for _ in range(int(np.log2(divisor))):
        halved = (voxels / 2 >= SMALLEST) & (spacing <= THICK * spacing.min())
        steps.append(tuple(2 if h else 1 for h in halved))
        voxels, spacing = np.where(halved, voxels / 2, voxels), np.where(halved, spacing * 2, spacing)
    return tuple(steps)


def _first_level(
    extent: np.ndarray,
    native: np.ndarray,
    spatial_size: Sequence[int] | None,
    pixdim: Sequence[float] | None,
    max_voxels: int,
    divisor: int,
    given: tuple[tuple[int, ...], ...] | None,
) -> Level:
    if spatial_size is not None:
        spacing = np.maximum(native, extent / spatial_size) if pixdim is None else np.asarray(pixdim, dtype=float)
        return agreed_level(spatial_size, spacing, divisor, given)
    spacing = _spread(extent, native, max_voxels) if pixdim is None else np.asarray(pixdim, dtype=float)
    counts = _at_least(extent / spacing, spacing, divisor)
    shrink = np.prod(given or plan_strides(counts, spacing, divisor), axis=0)
    shrink = shrink if given is None else np.lcm(shrink, divisor)
    blocks = extent / spacing / shrink
    # a wanted spacing is kept, as thick slices are, and the grid spans all; else the spacing gives way a little
    kept = np.full(3, pixdim is not None) | ((spacing == native) & _is_thick(spacing))
    blocks = np.where(kept, np.ceil(blocks - 1e-6), np.round(blocks))
    size = np.maximum(shrink * blocks, _at_least(2 * shrink, spacing, divisor)).astype(int)
    spacing = np.where(kept, spacing, np.maximum(spacing, extent / size))
    return make_level(size, spacing, given or _dividing(size, spacing, divisor))


def _spread(extent: np.ndarray, native: np.ndarray, max_voxels: int) -> np.ndarray:
    """Return the spacing, mm, at which an extent has max_voxels voxels; what an axis can't use, the others get."""
    kept, wanted = np.zeros(3, bool), 0.0
    for _ in range(3):
        if kept.all():
            break
        left = max_voxels / np.prod(extent[kept] / native[kept])
        wanted = float((np.prod(extent[~kept]) / left) ** (1 / (~kept).sum()))
        more = ~kept & ((native >= wanted) | (_is_thick(native) & (native >= KEPT * wanted)))
        if not more.any():
            break
        kept |= more
    return np.where(kept, native, wanted)


def _is_thick(spacing: np.ndarray) -> np.ndarray:
    return spacing > THICK * spacing.min()


def _at_least(counts: np.ndarray, spacing: np.ndarray, divisor: int) -> np.ndarray:
    """Return counts of voxels, of at least two blocks along axes that are not thick: a body takes all its steps."""
    return np.where(_is_thick(spacing), counts, np.maximum(counts, 2 * divisor))


def _dividing(size: Sequence[int], spacing: np.ndarray, divisor: int) -> tuple[tuple[int, ...], ...]:
    """Return planned steps without those that don't divide a size."""
    rest, steps = np.array(size), []
    for step in plan_strides(size, spacing, divisor):
        fitting = np.where(rest % step == 0, step, 1)
        rest = rest // fitting
        steps.append(tuple(int(stride) for stride in fitting))
    return tuple(steps)


def _pays(first: Level, native: np.ndarray) -> bool:
    """Whether the first level is coarse where the scans are finer."""
    spacing = np.asarray(first.pixdim)
    return bool(((spacing > COARSE) & (spacing > WORTH * native)).any())


def _finer(first: Level, native: np.ndarray) -> np.ndarray:
    """Return the spacing of a second level, mm: the scans' own where that is about as fine."""
    wanted = np.asarray(first.pixdim).min() / FINER
    return np.where(native * ALIKE >= wanted, native, wanted)


def _window(extent: np.ndarray, spacing: np.ndarray, max_voxels: int, divisor: int) -> Level:
    """Return a window of about max_voxels voxels, as long in mm along all axes as the extent allows."""
    counts, side, free = extent / spacing, 0.0, np.ones(3, bool)
    for _ in range(3):
        if not free.any():
            break
        left = max_voxels / np.prod(counts[~free])
        side = float((left * np.prod(spacing[free])) ** (1 / free.sum()))  # mm
        shorter = free & (extent < side)
        if not shorter.any():
            break
        free &= ~shorter
    counts = _at_least(np.where(free, side / spacing, counts), spacing, divisor)
    shrink = np.prod(plan_strides(counts, spacing, divisor), axis=0)
    blocks = np.where(free, np.round(counts / shrink), np.ceil(counts / shrink - 1e-6))
    size = np.maximum(shrink * blocks, 2 * shrink).astype(int)
    return make_level(size, spacing, _dividing(size, spacing, divisor))


def _per_axis(strides: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    """Return strides with one number an axis."""
    return tuple((int(s),) * 3 if np.ndim(s) == 0 else tuple(int(n) for n in s) for s in strides)


def _require_model(
    model: Grid,
    spatial_size: Sequence[int] | None,
    pixdim: Sequence[float] | None,
    ranges: tuple[Range | None, ...] | None,
) -> None:
    wanted = (("spatial_size", spatial_size, model.spatial_size), ("pixdim", pixdim, model.pixdim))
    problems = [
        f"{name} is {list(value)}; wanted {list(own)} as in models/model.pt, or null: its training goes on"
        for name, value, own in wanted
        if value is not None and not np.allclose(value, own, rtol=1e-3)
    ]
    if ranges is not None and ranges != model.intensity_range:
        said, own = ([None if pair is None else list(pair) for pair in one] for one in (ranges, model.intensity_range))
        problems.append(f"intensity_range is {said}; wanted {own} as in models/model.pt, or null: its training goes on")
    if problems:
        raise InputError(problems)
