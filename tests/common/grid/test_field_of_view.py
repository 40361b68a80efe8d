from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.errors import InputError
from common.grid.field_of_view import describe_oversize, share_outside
from common.grid.grid import make_grid
from common.grid.to_grid import ToGridd


def matrix(scale: float, *shift: float) -> torch.Tensor:
    result = torch.diag(torch.tensor([scale, scale, scale, 1.0], dtype=torch.float64))
    result[:3, 3] = torch.tensor(shift)
    return result


@pytest.mark.parametrize(
    ("to_grid", "size", "share"),
    [
        (matrix(1, 0, 0, 0), (10, 10, 10), 0.0),
        (matrix(1, 0, 0, 0), (20, 10, 10), 0.5),
        (matrix(1, -5, 0, 0), (20, 10, 10), 0.5),  # in the middle
        (matrix(2, 0, 0, 0), (10, 10, 10), 1 - 0.5**3),
        (matrix(1, 0, 0, 100), (10, 10, 10), 1.0),
        (matrix(1, 0, 0, 0), (1000, 10, 10), 0.99),
    ],
)
def test_share_of_a_scan_outside_of_a_grid(to_grid, size, share):
    assert share_outside(to_grid, size, (10, 10, 10)) == pytest.approx(share, abs=0.01)


def test_a_turned_grid_holds_a_part():
    turned = matrix(1, 0, 0, 0)
    turned[:2, :2] = torch.tensor([[0.7071, -0.7071], [0.7071, 0.7071]])
    turned[:2, 3] = torch.tensor([49.5, -20.5])  # both squares have one centre: they share an octagon
    assert share_outside(turned, (100, 100, 10), (100, 100, 10)) == pytest.approx(1 - 2 * (2**0.5 - 1), abs=0.02)


def test_a_volume_that_grows_beyond_the_limit():
    affine = np.array([[0, 0, 2.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # axes A, S, R
    assert describe_oversize((300, 500, 200), affine, (1, 1, 1)) is None
    line = describe_oversize((300, 500, 200), affine, (0.1, 1, 0.5))
    assert line.startswith("spans 400 x 300 x 500 mm, at the model's spacing of 0.1 x 1 x 0.5 mm 1200 million voxels")


def test_a_tilted_one_is_refused_before_it_is_made():
    """Others go to the grid without being made at its spacing."""
    affine = torch.diag(torch.tensor([100.0, 100, 100, 1]))
    grid = make_grid((8, 8, 8), (3.0, 3.0, 3.0), (0, 1))
    assert (
        ToGridd("image", grid)({"image": MetaTensor(torch.zeros(1, 40, 40, 40), affine=affine)})["image"].shape[1] == 8
    )
    affine[0, 2] = 10.0
    with pytest.raises(InputError, match=r"the image: spans 4000 x 4000 x 40\d+ mm, .* million voxels; wanted 800"):
        ToGridd("image", grid)({"image": MetaTensor(torch.zeros(1, 40, 40, 40), affine=affine)})
