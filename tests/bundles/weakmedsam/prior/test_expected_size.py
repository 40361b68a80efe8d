from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ResizeWithPadOrCrop

from support.bundle.path import import_bundle

expected_size = import_bundle("weakmedsam", "prior.expected_size")
InputError = import_bundle("weakmedsam", "common.errors").InputError

BOX = [[0.25, 0.75], [0.0, 1.0], [0.2, 0.7]]


@pytest.mark.parametrize(
    ("wanted", "prior", "sizes", "found"),
    [
        ("auto", "box", [1.0, 2.0], "size"),
        ("auto", "box", [1.0, None], "box"),
        ("auto", "cam", [None, 2.0], "otsu"),
        ("auto", "centre", [None], "otsu"),
        ("size", "cam", [1.0], "size"),
        ("otsu", "box", [1.0], "otsu"),
        (0.3, "cam", [None], 0.3),
    ],
)
def test_what_a_threshold_goes_by(wanted, prior, sizes, found):
    assert expected_size.choose_threshold(wanted, prior, sizes) == found


@pytest.mark.parametrize("wanted", ["area", "box", 0, 1, 1.5, -0.2, True, None, float("nan")])
def test_no_other_threshold(wanted):
    with pytest.raises(InputError, match=r"threshold is .*; wanted auto, size, otsu, or a number between 0 and 1"):
        expected_size.choose_threshold(wanted, "cam", [1.0])


def test_size_needs_the_size_of_every_label():
    with pytest.raises(InputError, match="every label's volume_ml"):
        expected_size.choose_threshold("size", "box", [1.0, None])


def presence(slices: list[int], size: tuple[int, ...], axis: int) -> torch.Tensor:
    bits = torch.zeros(size[axis])
    bits[slices] = 1
    return bits.reshape([-1 if a == axis else 1 for a in range(3)]).expand(size)


def test_a_volume_over_the_mean_length_of_its_cases_is_an_area():
    size, pixdim = (10, 20, 30), (1.0, 2.0, 3.0)
    labels = [[[3, 4, 5], [2, 3, 4, 5, 6]], [[7], [1, 2, 8]], [[], [0]], [[1], [1]]]
    both = [torch.stack([presence(row, size, 1) for row in rows]) for rows in zip(*labels, strict=True)]
    volumes_ml = [1.8, 0.9, 0.3, 5000.0]
    shares = expected_size.shares_by_volume(volumes_ml, both, pixdim, 1)
    plane = 10 * 1.0 * 30 * 3.0
    assert shares == pytest.approx(
        [1800 / (4 * 2) / plane, 900 / (2 * 2) / plane, 300 / 2 / plane, 1.0]
    )  # all of it at most
    assert expected_size.shares_by_volume([1.0], [both[0][2:3]], pixdim, 1) == [0]  # on no slice of any case
    half = torch.arange(30) < 15  # of the grid's plane is the scan's
    scanned = [one * half for one in both]
    doubled = expected_size.shares_by_volume(volumes_ml, scanned, pixdim, 1)
    assert doubled == pytest.approx([min(1.0, 2 * share) for share in shares])


def scan(size: tuple[int, int, int]) -> MetaTensor:
    affine = np.eye(4)
    return MetaTensor(
        torch.zeros(1, *size), affine=affine, meta={"spatial_shape": np.array(size), "original_affine": affine}
    )


def test_a_box_covers_its_ellipse_in_the_scan_wherever_the_grid_ends():
    grid = ResizeWithPadOrCrop((40, 16, 40), mode="edge")
    whole, smaller = grid(scan((40, 16, 40))), grid(scan((20, 16, 20)))
    share = np.pi / 4 * 0.5 * 0.5
    other = [[0.0, 1.0]] * 3
    assert expected_size.shares_by_box([BOX, other], [whole], 1) == pytest.approx([share, np.pi / 4], rel=0.05)
    assert expected_size.shares_by_box([BOX], [smaller], 1) == pytest.approx([share], rel=0.1)  # of its plane
    assert expected_size.shares_by_box([BOX], [whole, smaller], 1) == pytest.approx([share], rel=0.07)
