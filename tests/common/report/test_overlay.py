from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from common.errors import InputError
from common.report.overlay import COLOURS, _window, grid_overlay, label_colour, overlay_png
from support.data.shorter_scan import shorter_scan

NAMES = {0: "background", 1: "liver", 2: "spleen"}


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png))).astype(float) / 255


def _near(pixels: np.ndarray, colour: str) -> np.ndarray:
    return np.abs(pixels - np.asarray(to_rgb(colour))).max(-1) < 0.06


def _case() -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).random((20, 24, 12)).astype(np.float32)
    label = np.zeros(image.shape, dtype=np.uint8)
    label[3:9, 14:20, 3:8] = 1  # small R, large A: patient's left, anterior
    return image, label


def test_one_panel_a_segmentation_and_a_colour_a_label():
    image, label = _case()
    other = np.where(label == 1, 2, 0)
    one = _pixels(overlay_png(image, {"truth": label}, NAMES))
    two = _pixels(overlay_png(image, {"truth": label, "pred": other}, NAMES))
    assert two.shape[1] > 1.3 * one.shape[1]
    assert _near(one, label_colour(1)).any() and not _near(one, label_colour(2)).any()
    middle = two.shape[1] // 2
    panels = two[: int(two.shape[0] * 0.9)]  # without the legend
    assert _near(panels[:, :middle], label_colour(1)).any() and not _near(panels[:, :middle], label_colour(2)).any()
    assert _near(panels[:, middle:], label_colour(2)).any() and not _near(panels[:, middle:], label_colour(1)).any()


def test_axial_view_is_radiological():
    image, label = _case()
    pixels = _pixels(overlay_png(image, {"truth": label}, NAMES))
    axial = _near(pixels[: pixels.shape[0] // 3], label_colour(1))
    rows, columns = np.nonzero(axial)
    # RAS: small first index is the patient's left, shown on the right; large second index is anterior, shown above
    assert columns.mean() > 0.55 * axial.shape[1]
    assert rows.mean() < 0.55 * axial.shape[0]


def test_the_focus_says_which_slices_are_shown_and_they_are_named():
    image, label = _case()
    label[:] = 0
    label[3:6, 14:17, 2:9] = 1
    far = np.zeros(image.shape, bool)
    far[15, 3, 10] = True
    shown = []
    plain = overlay_png(image, {"a": label}, NAMES, slice_name=lambda *place: shown.append(place) or "slice 1 of 2")
    focused = overlay_png(image, {"a": label}, NAMES, focus=far, slice_name=lambda *place: shown.append(place) or "x")
    assert shown[3:] == [(2, 10), (1, 3), (0, 15)] and shown[0][0] == 2 and 2 <= shown[0][1] < 9
    seen = [_near(_pixels(png)[:-60], label_colour(1)).any() for png in (plain, focused)]  # without the legend
    assert seen == [True, False]
    nowhere = overlay_png(image, {"a": label}, NAMES, focus=np.zeros(image.shape, bool))
    assert nowhere == overlay_png(image, {"a": label}, NAMES)


def test_height_follows_spacing():
    image, label = _case()
    flat = _pixels(overlay_png(image, {"a": label}, NAMES, spacing=(1, 1, 0.6))).shape
    tall = _pixels(overlay_png(image, {"a": label}, NAMES, spacing=(1, 1, 2))).shape
    assert tall[0] > 1.3 * flat[0] and tall[1] == flat[1]


def test_column_with_an_image_of_its_own_tensors_channel_axis_and_unknown_labels():
    image, label = _case()
    png = overlay_png(
        torch.from_numpy(image)[None],
        {"atlas": (np.ones((8, 9, 10)), np.full((8, 9, 10), 9)), "pred": torch.from_numpy(label), "none": label * 0},
        {"1": "liver"},
    )
    assert png.startswith(b"\x89PNG") and _near(_pixels(png), label_colour(9)).any()


def test_same_input_same_bytes_and_non_finite_voxels_are_drawn():
    image, label = _case()
    image[0, 0, 0] = np.nan
    assert overlay_png(image, {"a": label}, NAMES) == overlay_png(image, {"a": label}, NAMES)
    assert overlay_png(np.full_like(image, np.nan), {"a": label}, NAMES)


def test_colours_are_told_apart():
    assert len({label_colour(value) for value in range(1, 8)}) == len(COLOURS) == 7
    assert label_colour(8) == label_colour(1)


@pytest.mark.parametrize(
    ("segmentations", "message"),
    [
        ({}, "no segmentation"),
        ({"pred": np.zeros((2, 3, 4))}, r"overlay pred: shape \(2, 3, 4\); .*\(20, 24, 12\) is wanted"),
        ({"pred": np.zeros((20, 24))}, r"overlay pred: shape \(20, 24\)"),
    ],
)
def test_wrong_shapes_are_named(segmentations, message):
    with pytest.raises(InputError, match=message):
        overlay_png(_case()[0], segmentations, NAMES)


def test_padding_does_not_darken_the_picture():
    volume = np.random.default_rng(0).normal(50, 20, (12, 12, 12))
    assert _window(np.pad(volume, 4, constant_values=-3024)) == _window(volume)


def test_beyond_the_scan_there_is_no_picture():
    image = torch.rand(1, 12, 10, 16, generator=torch.manual_seed(0))
    label = torch.zeros(12, 10, 16)
    label[3:8, 2:6, 4:9] = 1
    drawn = grid_overlay(shorter_scan(image, 4, 6), {"label": label}, {1: "organ"}, (1, 1, 5))
    wanted = overlay_png(image[..., 4:10], {"label": label[..., 4:10].int()}, {1: "organ"}, (1, 1, 5))
    assert drawn == wanted
