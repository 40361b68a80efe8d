"""Where a structure usually lies and how large it is: what a user may say once for a whole data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..common.errors import InputError

Box = Sequence[Sequence[float]]

AXES = "RAS"
LARGEST_NUMBER = 1e300  # to compare with: a whole number of hundreds of digits is no float
CENTRE = (0.25, 0.75)
REACH = 0.5  # of a box's side, beyond each of its ends
WITHIN = 0.9  # share of a box that lies in another: people draw both by eye


@dataclass(frozen=True)
class Location:
    """A typical box, as fractions of the image from its left, posterior and inferior end, and a rough volume in ml."""

    box: tuple[tuple[float, float], ...] | None = None
    volume_ml: float | None = None


def read_locations(
    other: Mapping[str, Any], labels: Mapping[int, str], name: str = "dataset.json"
) -> dict[int, Location]:
    """Read `locations` of a datalist: `{"1": {"box": [[0.15, 0.75], [0.15, 0.5], [0, 1]], "volume_ml": 1.6}}`.

    Args:
        other: top-level keys of the datalist, `Datalist.other`.
        labels: value and name of each label, background included.
        name: of the file, for messages.

    Returns:
        a Location for every foreground label, empty where nothing is said of it.

    Raises:
        InputError: one line for each problem, all of them together.
    """
    foreground = [value for value in labels if value != 0]
    given = other.get("locations")
    problems: list[str] = []
    found = {value: Location() for value in foreground}
    if given is None:
        return found
    if not isinstance(given, Mapping):
        raise InputError(f'{name}: locations is {given!r}; wanted {{"1": {{"box": ..., "volume_ml": ...}}, ...}}')
    for key, entry in given.items():
        where = f"{name}: locations of label {key}"
        value = int(key) if str(key).isdigit() else None
        if value not in found:
            problems.append(f"{where}: no foreground label; wanted one of {', '.join(map(str, foreground))}")
        elif not isinstance(entry, Mapping) or not set(entry) <= {"box", "volume_ml"}:
            problems.append(f"{where}: found {entry!r}; wanted an object with box, volume_ml or both")
        else:
            box = _read_box(entry.get("box"), where, problems)
            found[value] = Location(box, _read_volume(entry.get("volume_ml"), where, problems))
    if problems:
        raise InputError(problems)
    return found


def _read_box(box: Any, where: str, problems: list[str]) -> tuple[tuple[float, float], ...] | None:
    if box is None:
        return None
    if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 3:
        problems.append(f"{where}: box is {box!r}; wanted a pair of fractions along each of R, A and S")
        return None
    wrong = [axis for axis, pair in zip(AXES, box, strict=True) if not _is_interval(pair)]
    for axis in wrong:
        pair = box[AXES.index(axis)]
        problems.append(f"{where}: box along {axis} is {pair!r}; wanted [low, high] with 0 <= low < high <= 1")
    return None if wrong else tuple((float(low), float(high)) for low, high in box)


def _read_volume(volume: Any, where: str, problems: list[str]) -> float | None:
    if volume is None:
        return None
    if not _is_number(volume) or volume <= 0:
        problems.append(f"{where}: volume_ml is {volume!r}; wanted a number above 0")
        return None
    return float(volume)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER


def _is_interval(pair: Any) -> bool:
    return isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_number, pair)) and 0 <= pair[0] < pair[1] <= 1


def ellipse_prior(
    box: Box, spatial_size: Sequence[int], slice_axis: int, fill: float = 0.9, sharpness: float | None = 10.0
) -> Tensor:
    """Return an ellipse in a box, in-plane, that goes through all slices the box spans.

    Args:
        box: [low, high] along each axis, fractions of the grid.
        spatial_size: H, W, D.
        slice_axis: 0, 1 or 2.
        fill: half axes of the ellipse, as a share of the box's half sides.
        sharpness: of the soft edge, sigmoid(sharpness * (1 - r)) with r = 1 on the ellipse; None for a hard one.

    Returns:
        [H, W, D] float32 in [0, 1].
    """
    axes = [(torch.arange(n) + 0.5) / n for n in spatial_size]
    return _ellipse(torch.stack(torch.meshgrid(*axes, indexing="ij")), box, slice_axis, fill, sharpness)


def location_prior(
    image: Tensor,
    box: Box,
    slice_axis: int,
    fill: float = 0.9,
    sharpness: float | None = 10.0,
    original_size: Sequence[int] | None = None,
    original_affine: Tensor | None = None,
) -> Tensor:
    """Return `ellipse_prior` of a box given on the scan as it was loaded, on the grid the scan was brought to.

    Args:
        image: MetaTensor [1, H, W, D] on the grid, with its affine.
        box: fractions of the scan along R, A, S, from its left, posterior and inferior end.
        slice_axis: of the grid.
        original_size, original_affine: of the scan as loaded, in any orientation; None takes the image's
            `spatial_shape` and `original_affine`, as `LoadImaged` sets them.

    Returns:
        [H, W, D] float32 in [0, 1]; where the grid goes on beyond the scan, its border is repeated.
    """
    place = original_fractions(image, original_size, original_affine).clamp(0, 1)
    return _ellipse(place, box, slice_axis, fill, sharpness)


def centre_prior(image: Tensor, slice_axis: int, sharpness: float | None = 10.0) -> Tensor:
    """Return the ellipse of half the scan's sides in its centre, through all slices: the control of every table."""
    box = [(0.0, 1.0) if axis == slice_axis else CENTRE for axis in range(3)]
    return location_prior(image, box, slice_axis, 1.0, sharpness)


def box_reach(image: Tensor, boxes: Sequence[Box], slice_axis: int) -> Tensor:
    """Return where labels of typical boxes can be at all, bool [P, H, W, D]: half a box's side beyond each of its ends.

    In-plane; a scan whose structure lies farther off has another box.

    Args:
        image: MetaTensor [1, H, W, D] on the grid, see `location_prior`.
        boxes: of P labels, fractions of the scan along R, A, S.
    """
    place = original_fractions(image).clamp(0, 1)
    reach = torch.ones(len(boxes), *place.shape[1:], dtype=torch.bool)
    for own, box in zip(reach, boxes, strict=True):
        for axis, (low, high) in enumerate(box):
            if axis != slice_axis:
                own &= (place[axis] - (low + high) / 2).abs() <= (0.5 + REACH) * (high - low)
    return reach


def enclosed(boxes: Sequence[Box], slice_axis: int) -> list[list[int]]:
    """Return for each box the numbers of those that lie in it in-plane, all but a little, and are smaller.

    What lies in one that lies in a third lies in the third, too.
    """
    plane = [[pair for axis, pair in enumerate(box) if axis != slice_axis] for box in boxes]
    area = [math.prod(high - low for low, high in pairs) for pairs in plane]
    shared = [[_shared_area(one, other) for other in plane] for one in plane]
    numbers, rows = range(len(boxes)), []
    for outer in sorted(numbers, key=lambda number: area[number]):
        inner = {n for n in numbers if area[n] < area[outer] and shared[n][outer] >= WITHIN * area[n]}
        rows.append((outer, inner.union(*(found for number, found in rows if number in inner))))
    return [sorted(inner) for _, inner in sorted(rows)]


def _shared_area(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    return math.prod(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in zip(one, other, strict=True))


def original_fractions(
    image: Tensor, original_size: Sequence[int] | None = None, original_affine: Tensor | None = None
) -> Tensor:
    """Return where the voxels of the grid lie in the scan as loaded: [3, H, W, D] fractions along R, A, S.

    0 and 1 are the outer edges of the scan's border voxels; the arguments are those of `location_prior`.

    Raises:
        InputError: neither a MetaTensor that knows its scan, nor size and affine given.
    """
    meta = image.meta if isinstance(image, MetaTensor) else {}
    size = meta.get("spatial_shape") if original_size is None else original_size
    affine = meta.get("original_affine") if original_affine is None else original_affine
    if not isinstance(image, MetaTensor) or size is None or affine is None:
        raise InputError("location: found an image without its affine or that of its scan, wanted a loaded MetaTensor")
    affine = torch.as_tensor(affine, dtype=torch.float64, device="cpu")
    to_scan = torch.linalg.inv(affine) @ image.affine.double().cpu()
    voxels = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in image.shape[1:]], indexing="ij")
    place = torch.einsum("ij,jhwd->ihwd", to_scan[:3, :3], torch.stack(voxels)) + to_scan[:3, 3, None, None, None]
    extent = torch.as_tensor([int(n) for n in size][:3], dtype=torch.float64)
    fractions = (place + 0.5) / extent[:, None, None, None]
    result = torch.empty_like(fractions)
    for own, (axis, direction) in zip(fractions, nibabel.io_orientation(affine.numpy()), strict=True):
        result[int(axis)] = own if direction > 0 else 1 - own
    return result.float()


def _ellipse(place: Tensor, box: Box, slice_axis: int, fill: float, sharpness: float | None) -> Tensor:
    """Evaluate the ellipse of a box at fractions [3, H, W, D]."""
    radius = torch.zeros_like(place[0])
    for axis, (low, high) in enumerate(box):
        if axis != slice_axis:
            radius += ((place[axis] - (low + high) / 2) / ((high - low) / 2 * fill)).square()
    radius = radius.sqrt()
    low, high = box[slice_axis]
    spanned = (place[slice_axis] >= low) & (place[slice_axis] <= high)
    inside = (radius <= 1).float() if sharpness is None else torch.sigmoid(sharpness * (1 - radius))
    return inside * spanned
