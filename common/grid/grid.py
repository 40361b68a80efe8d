"""The grid that all volumes of a data set are brought to, as a trained model carries it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.tensor_files import load_tensors

FINE = "fine"  # name of the fine network within one of two levels

Range = tuple[float, float]  # values of a file that become 0 and 1
PERCENTILES: Range = (0.0, 0.0)  # what stands in a model.pt for none: two tensors with NaN are never equal


@dataclass(frozen=True)
class Level:
    """What a network sees at once: a window, and by which steps its body makes that coarser.

    Args:
        spatial_size: voxels along the RAS axes.
        pixdim: spacing of the voxels, mm.
        strides: of each step of the body, one number an axis; None: not known, as of a model.pt that doesn't say.
    """

    spatial_size: tuple[int, ...]
    pixdim: tuple[float, ...]
    strides: tuple[tuple[int, ...], ...] | None = None

    def check(self) -> None:
        """Raise a ValueError where a size, a spacing or a stride is not above 0."""
        if any(n < 1 for n in self.spatial_size):
            raise ValueError(f"spatial_size is {list(self.spatial_size)}; wanted voxels above 0")
        if any(p <= 0 for p in self.pixdim):
            raise ValueError(f"pixdim is {list(self.pixdim)}; wanted millimetres above 0")
        if any(stride < 1 for step in self.strides or () for stride in step):
            raise ValueError(f"strides is {self.strides}; wanted voxels above 0")

    def as_dict(self) -> dict[str, Any]:
        """Return its fields as lists, for JSON; what isn't known is left out."""
        known = {"spatial_size": list(self.spatial_size), "pixdim": list(self.pixdim)}
        return known if self.strides is None else {**known, "strides": [list(step) for step in self.strides]}


@dataclass(frozen=True)
class Grid:
    """The window that all volumes of a data set are brought to, and what its classes mean; kept by model.pt as buffers.

    Args:
        spatial_size, pixdim, strides: see `Level`.
        label_values: value of each class in a label map, background first.
        fine: a second, finer level, whose windows are put where the first one finds something; None: there is none.
        intensity_range: of each channel of a scan, the values of the file that become 0 and 1; None: percentiles of
            each scan's own.

    Raises:
        ValueError: see `Level`; fewer than two classes; no channel, or a range that doesn't ascend.
    """

    spatial_size: tuple[int, ...]
    pixdim: tuple[float, ...]
    label_values: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...] | None = None
    fine: Level | None = None
    intensity_range: tuple[Range | None, ...] = (None,)

    def __post_init__(self) -> None:
        if not self.intensity_range or any(pair is not None and not pair[0] < pair[1] for pair in self.intensity_range):
            raise ValueError(f"intensity_range is {self.intensity_range}; wanted two ascending numbers a channel")
        if len(self.label_values) < 2:
            raise ValueError(f"label_values is {list(self.label_values)}; wanted the background and at least one more")
        self.level.check()

    @property
    def level(self) -> Level:
        """The first level, which sees most of a scan."""
        return Level(self.spatial_size, self.pixdim, self.strides)

    @property
    def finest(self) -> Level:
        """The fine level, or the only one."""
        return self.fine or self.level

    @property
    def channels(self) -> int:
        """Channels of a scan."""
        return len(self.intensity_range)

    def as_dict(self) -> dict[str, Any]:
        """Return its fields as lists, for JSON; what isn't known or isn't there is left out."""
        known: dict[str, Any] = {**self.level.as_dict(), "label_values": list(self.label_values)}
        if self.intensity_range != (None,):
            known["intensity_range"] = [None if pair is None else list(pair) for pair in self.intensity_range]
        return known if self.fine is None else {**known, "fine": self.fine.as_dict()}


def make_level(
    spatial_size: Iterable[float], pixdim: Iterable[float], strides: Iterable[Iterable[float]] | None = None
) -> Level:
    """Return a level of any numbers: whole sizes and strides, spacings to a ten-thousandth of a mm."""
    steps = None if strides is None else tuple(tuple(int(stride) for stride in step) for step in strides)
    return Level(tuple(int(n) for n in spatial_size), tuple(round(float(p), 4) for p in pixdim), steps)


def make_grid(
    spatial_size: Iterable[float],
    pixdim: Iterable[float],
    label_values: Iterable[float],
    strides: Iterable[Iterable[float]] | None = None,
    fine: Level | None = None,
    intensity_range: Iterable[Sequence[float] | None] = (None,),
) -> Grid:
    """Return a grid of any numbers: whole sizes and values, spacings to a ten-thousandth of a mm."""
    level = make_level(spatial_size, pixdim, strides)
    values = tuple(int(v) for v in label_values)
    return Grid(level.spatial_size, level.pixdim, values, level.strides, fine, make_ranges(intensity_range))


def make_ranges(ranges: Iterable[Sequence[float] | None]) -> tuple[Range | None, ...]:
    """Return ranges of any numbers, to six digits, which float32 holds; one of `PERCENTILES` is none."""
    return tuple(
        None if pair is None or tuple(pair) == PERCENTILES else (float(f"{pair[0]:.6g}"), float(f"{pair[1]:.6g}"))
        for pair in ranges
    )


def read_grid(path: str | None, default: Mapping[str, Sequence[float]]) -> Grid:
    """Return the grid that a trained model.pt carries, or the default, by its fields, where there is no such file."""
    if not path or not Path(path).expanduser().exists():
        return make_grid(default["spatial_size"], default["pixdim"], default["label_values"])
    tensors = load_tensors(path)
    found = {name: tensors[name].tolist() for name in ("spatial_size", "pixdim", "label_values")}
    strides = tensors["strides"].tolist() if "strides" in tensors else None
    fine = None
    if f"{FINE}.pixdim" in tensors:
        fine = make_level(*(tensors[f"{FINE}.{name}"].tolist() for name in ("spatial_size", "pixdim", "strides")))
    ranges = tensors["intensity_range"].tolist() if "intensity_range" in tensors else (None,)
    return make_grid(**found, strides=strides, fine=fine, intensity_range=ranges)
