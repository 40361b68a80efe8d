from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.imaging.scanned import find_padding


def noise(shape=(24, 20, 18), seed=0):
    return np.random.default_rng(seed).normal(100, 20, shape).round().astype(np.float32)


def test_in_a_scan_without_padding_everything_was_scanned():
    assert find_padding(noise()) is None
    saturated = noise().clip(None, 110)  # a third of the voxels is the brightest value, the corners among them
    saturated[:4, :4, :4] = 110
    assert find_padding(saturated) is None
    assert find_padding(np.full((4, 4, 4), 7.0)) is None


@pytest.mark.parametrize("value", [-3024, -32768, 0, 100, 32767])
def test_a_frame_of_any_value_is_found(value):
    volume, frame = (
        np.pad(noise(), 5, constant_values=value),
        np.pad(np.zeros(noise().shape, bool), 5, constant_values=1),
    )
    found = find_padding(volume)
    assert found[frame].all()
    # a voxel of the frame's very value that touches it can't be told from it
    assert np.array_equal(found, ndimage.label(volume == value)[0] == 1) and found[~frame].mean() < 0.02


def test_the_corners_beyond_a_round_field_of_view():
    x, y = np.ogrid[-1:1:24j, -1:1:20j]
    beyond = np.broadcast_to((x**2 + y**2 > 1)[..., None], (24, 20, 18))
    volume = np.where(beyond, -3024, noise())
    assert np.array_equal(find_padding(volume), beyond)


def test_sides_of_different_values_and_blank_slices():
    volume = noise()
    volume[..., 9], volume[:3], volume[:, -2:] = 55, -2000, 0
    found = find_padding(volume)
    expected = np.zeros(volume.shape, bool)
    expected[:3], expected[:, -2:], expected[..., 9] = True, True, True
    assert np.array_equal(found, expected)


def test_a_single_slice_that_was_scanned():
    volume = np.zeros((6, 7, 5))
    volume[..., 2] = noise((6, 7, 1))[..., 0]
    assert np.array_equal(find_padding(volume), volume == 0)


def test_air_of_one_value_is_found_within_a_frame_and_holes_of_it_were_scanned():
    x, y, z = np.ogrid[-1:1:24j, -1:1:20j, -1:1:18j]
    air = (x**2 + y**2 > 0.7) | (z < -0.9)
    volume = np.where(air, 0, noise())
    volume[12, 10, 9:12] = 0  # a cavity
    assert np.array_equal(find_padding(volume), air)
    framed = find_padding(np.pad(volume, 4, constant_values=-1024))
    assert np.array_equal(framed[4:-4, 4:-4, 4:-4], air) and framed.sum() == framed.size - (~air).sum()
