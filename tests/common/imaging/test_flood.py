from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.imaging.flood import count_voxels, flood, opened, pack, unpack


@pytest.mark.parametrize("size", [(3, 4, 5), (6, 5, 64), (4, 7, 129), (20, 21, 200)])
@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
def test_the_pieces_of_some_voxels_are_those_that_scipy_finds(size, share):
    random = np.random.default_rng(len(size) + size[2])
    mask = random.random(size) < share
    assert np.array_equal(unpack(pack(mask), size[2]), mask)
    seeds = [tuple(int(i) for i in random.integers(0, size)) for _ in range(3)]  # of the mask or not
    pieces = ndimage.label(mask)[0]
    wanted = np.isin(pieces, [pieces[seed] for seed in seeds]) & mask
    assert np.array_equal(unpack(flood(pack(mask), seeds), size[2]), wanted)


def test_a_way_that_turns_often_is_followed_to_its_end():
    mask = np.zeros((1, 41, 150), bool)
    mask[0, ::2] = True
    mask[0, 1::4, -1] = mask[0, 3::4, 0] = True
    assert np.array_equal(unpack(flood(pack(mask), [(0, 0, 0)]), 150), mask)
    mask[0, 20, 70] = False
    assert unpack(flood(pack(mask), [(0, 0, 0)]), 150).sum() < mask.sum()


def test_packed_voxels_are_counted():
    mask = np.random.default_rng(3).random((3, 5, 130)) < 0.4
    assert count_voxels(pack(mask)) == mask.sum()


@pytest.mark.parametrize("size", [(3, 4, 5), (6, 70, 64), (9, 7, 129)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_opening_is_that_of_scipy_in_a_mask_that_goes_on_beyond_its_border(size, order):
    mask = np.random.default_rng(size[2]).random(size) < 0.9
    mask[:, 2:] |= np.indices(size)[2][:, 2:] > 2  # a block at the border
    cube = np.ones((3, 3, 3), bool)
    shrunk = ndimage.binary_erosion(mask, cube, border_value=1)
    found = opened(np.asarray(mask, order=order))
    assert found.any() and np.array_equal(found, ndimage.binary_dilation(shrunk, cube) & mask)
