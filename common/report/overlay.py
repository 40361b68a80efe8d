"""Segmentations drawn over slices of their image, side by side."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..grid.field_of_view import scan_box
from ..imaging.scanned import find_padding
from ..tensors import plain

# matplotlib is imported where something is drawn: who only predicts may lack it (docs/deploy.md)
if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by the colour-blind, without black; a label keeps its colour in every picture
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")
LINE_STYLES: tuple[Literal["solid", "dashed", "dotted"], ...] = ("solid", "dashed", "dotted")
PAPER, INK = "#000000", "#e8e8e8"
# (name, axis that is cut, axis shown across, axis shown upwards, mirrored?, letters left/right/bottom/top)
# radiological view of an RAS volume: the patient's right is on the left, anterior of a sagittal slice too
PLANES = (
    ("axial", 2, 0, 1, True, "RLPA"),
    ("coronal", 1, 0, 2, True, "RLIS"),
    ("sagittal", 0, 1, 2, True, "APIS"),
)


def overlay_png(
    image: Any,
    segmentations: Mapping[str, Any],
    label_names: Mapping[Any, str],
    spacing: Sequence[float] | None = None,
    dpi: int = 150,
    focus: Any = None,
    slice_name: Callable[[int, int], str] | None = None,
) -> bytes:
    """Draw one column a segmentation and one row a plane (axial, coronal, sagittal), and return the PNG.

    All columns of one image show the same slices: those with most voxels of `focus`, or without it with most labelled
    voxels over its segmentations together.

    Args:
        image: [H, W, D] (or [1, H, W, D]) in RAS, any range; shown in grey between the 1st and 99th percentile of
            what was scanned.
        segmentations: title -> [H, W, D] integers, 0 is background; or title -> (image, segmentation) where a column
            has an image of its own, which may differ in size.
        label_names: label value -> name; 0 is left out, a value without a name is shown by its number.
        spacing: (H, W, D) in mm, 1 mm by default.
        dpi: points per inch; a column is 2.2 inches wide.
        focus: [H, W, D], where to look in columns without an image of their own; None, or nothing in it: see above.
        slice_name: (axis, index from 0) -> what stands over a slice in the first column.

    Raises:
        InputError: nothing to draw, or an image and its segmentation differ in shape.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shared = _volume("image", image)
    columns = [_column(title, entry, shared) for title, entry in segmentations.items()]
    if not columns:
        raise InputError("overlay: no segmentation to draw; one or more are wanted")
    spacing = tuple(float(size) for size in (spacing if spacing is not None else (1, 1, 1)))
    names = {int(value): str(name) for value, name in label_names.items() if int(value) != 0}
    present = sorted({int(value) for _, _, seg in columns for value in np.unique(seg)} - {0})

    heights = [max(vol.shape[up] * spacing[up] / (vol.shape[across] * spacing[across]) for _, vol, _ in columns)
               for _, _, across, up, _, _ in PLANES]  # fmt: skip
    heights = [min(max(height, 0.3), 1.6) for height in heights]
    width = 2.2
    rows_of_legend = -(-len(present) // (2 * len(columns)))
    top, bottom = 0.28, 0.12 + 0.22 * rows_of_legend
    size = (max(width * len(columns), 3.0), width * sum(heights) + top + bottom)
    figure = Figure(figsize=size, dpi=dpi, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(PLANES),
        len(columns),
        squeeze=False,
        gridspec_kw={
            "height_ratios": heights,
            "hspace": 0.02,
            "wspace": 0.02,
            "left": 0.005,
            "right": 0.995,
            "top": 1 - top / size[1],
            "bottom": bottom / size[1],
        },
    )
    wanted = None if focus is None else _volume("focus", focus)
    for column, (title, volume, segmentation) in enumerate(columns):
        window = _window(volume)
        together = sum((seg != 0).astype(np.int64) for _, other, seg in columns if other is volume)
        if wanted is not None and volume is shared and wanted.any():
            together = wanted
        for row, plane in enumerate(PLANES):
            index = _fullest(together, plane[1])
            _draw(axes[row, column], volume, segmentation, index, plane, spacing, window)
            if slice_name is not None and column == 0:
                _write(axes[row, column], slice_name(plane[1], index), 0.02, 0.97, "left", "top")
        axes[0, column].set_title(title, color=INK, fontsize=9, pad=4)
    _legend(figure, present, names, rows_of_legend)
    canvas.draw()
    png = io.BytesIO()
    # opaque, so three channels do; `optimize` takes five times as long to spare a fifteenth of the bytes
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(png, format="png")
    return png.getvalue()


def grid_overlay(
    image: Tensor,
    maps: Mapping[str, Tensor],
    label_names: Mapping[Any, str],
    spacing: Sequence[float],
    focus: Tensor | None = None,
) -> bytes:
    """Draw label maps of the network's grid as `overlay_png` does, cut to the scan: what lies beyond is no picture.

    Args:
        image: [1, H, W, D] on the grid, see `inside_scan`.
        maps: title -> [H, W, D], class or value of each voxel.
        spacing: of the grid, mm.
        focus: [H, W, D], see `overlay_png`.
    """
    box = scan_box(image)
    cut = {title: volume[box].cpu().int().numpy() for title, volume in maps.items()}
    where = None if focus is None else focus[box].cpu().numpy()
    return overlay_png(plain(image)[0][box].cpu().float().numpy(), cut, label_names, spacing, focus=where)


def label_colour(value: int) -> str:
    """Colour of a label value, the same in every picture; it repeats after seven labels with another line style."""
    return COLOURS[(value - 1) % len(COLOURS)]


def _draw(axis, volume, segmentation, index, plane, spacing, window) -> None:
    from matplotlib.colors import to_rgb

    name, cut, across, up, mirrored, letters = plane
    extent = (0, volume.shape[across] * spacing[across], 0, volume.shape[up] * spacing[up])
    picture, labels = (_slice(array, cut, index, mirrored) for array in (volume, segmentation))
    settings = {"origin": "lower", "extent": extent, "aspect": "equal"}
    axis.imshow(picture, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear", **settings)
    values = [int(value) for value in np.unique(labels) if value != 0]
    fill = np.zeros((*labels.shape, 4))
    for value in values:
        fill[labels == value] = (*to_rgb(label_colour(value)), 0.28)
    axis.imshow(fill, interpolation="nearest", **settings)
    # a rim of background closes the line of a label that touches the border
    spots = [(np.arange(-1, n + 1) + 0.5) * spacing[a]
             for n, a in ((labels.shape[1], across), (labels.shape[0], up))]  # fmt: skip
    for value in values:
        inside = np.pad((labels == value).astype(float), 1)
        style = LINE_STYLES[(value - 1) // len(COLOURS) % len(LINE_STYLES)]
        axis.contour(*spots, inside, levels=[0.5], colors=[label_colour(value)], linewidths=1.1, linestyles=style)
    axis.set_xlim(extent[:2])
    axis.set_ylim(extent[2:])
    axis.set_axis_off()
    axis.set_anchor("N")  # the tops of columns of different images stand in line
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"),
              (0.5, 0.02, "center", "bottom"), (0.5, 0.98, "center", "top"))  # fmt: skip
    for letter, place in zip(letters, places, strict=True):
        _write(axis, letter, *place)
    axis.set_label(f"{name} {index}")


def _write(axis, text: str, x: float, y: float, horizontal: str, vertical: str) -> None:
    from matplotlib.patheffects import withStroke

    drawn = axis.text(x, y, text, color=INK, fontsize=7, ha=horizontal, va=vertical, transform=axis.transAxes)
    drawn.set_path_effects([withStroke(linewidth=1.6, foreground=PAPER)])  # readable on white tissue too


def _slice(volume: np.ndarray, cut: int, index: int, mirrored: bool) -> np.ndarray:
    plane = np.take(volume, index, axis=cut).T  # [across, up] -> [up, across], rows drawn upwards
    return plane[:, ::-1] if mirrored else plane


def _legend(figure: Figure, present: list[int], names: Mapping[int, str], rows: int) -> None:
    from matplotlib.lines import Line2D

    if not present:
        return
    lines = [
        Line2D([], [], color=label_colour(value), linewidth=3, linestyle=LINE_STYLES[(value - 1) // 7 % 3])
        for value in present
    ]
    texts = [names.get(value, f"label {value}") for value in present]
    figure.legend(lines, texts, loc="lower center", ncols=-(-len(present) // rows), frameon=False, labelcolor=INK,
                  fontsize=8, borderpad=0.2, handlelength=1.6, columnspacing=1.2)  # fmt: skip


def _column(title: str, entry: Any, shared: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    own = isinstance(entry, tuple)
    volume = _volume(f"image of {title}", entry[0]) if own else shared
    segmentation = _volume(title, entry[1] if own else entry)
    if segmentation.shape != volume.shape:
        raise InputError(
            f"overlay {title}: shape {segmentation.shape}; the shape of its image {volume.shape} is wanted"
        )
    return str(title), volume, segmentation


def _volume(name: str, array: Any) -> np.ndarray:
    array = array.detach().cpu() if hasattr(array, "detach") else array
    volume = np.asarray(array)
    if volume.ndim == 4 and volume.shape[0] == 1:
        volume = volume[0]
    if volume.ndim != 3 or volume.size == 0:
        raise InputError(f"overlay {name}: shape {np.shape(array)}; [H, W, D] or [1, H, W, D] is wanted")
    return volume


def _window(volume: np.ndarray) -> tuple[float, float]:
    padding = find_padding(volume)
    shown = volume if padding is None else volume[~padding]
    finite = shown[np.isfinite(shown)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    return float(low), float(high) if high > low else float(low) + 1.0


def _fullest(inside: np.ndarray, cut: int) -> int:
    """Slice with most labelled voxels across `cut`, the middle one where there is none."""
    counts = inside.sum(axis=tuple(axis for axis in range(3) if axis != cut))
    return int(counts.argmax()) if counts.any() else inside.shape[cut] // 2
