from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.errors import InputError
from common.grid.field_of_view import describe_oversize, filled_box, inside_scan, scan_box, share_outside
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


def test_a_box_holds_all_that_is_there():
    mask = torch.zeros((5, 6, 7), dtype=torch.bool)
    assert filled_box(mask) is None
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert filled_box(mask) == [slice(1, 4), slice(2, 3), slice(3, 7)]


def scanned(size, affine, grid) -> MetaTensor:
    """The image of a scan on a grid, as `ImagePreprocessing` leaves it."""
    meta = {"original_affine": affine, "spatial_shape": size}
    return ToGridd("image", grid)({"image": MetaTensor(torch.rand((1, *size)), affine=affine, meta=meta)})["image"]


@pytest.mark.parametrize("step", [0.5, 1.0, 1.3, 2.0, 4.4])
def test_what_lies_within_the_scan(step):
    """The nearest voxel of the grid to any voxel of the scan is inside, others are not."""
    affine = torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0])).double()
    image = scanned((6, 7, 10), affine, make_grid((6, 9, 32), (1, 1, 2 * step), (0, 1)))
    inside = inside_scan(image)
    assert inside.shape == (1, 6, 9, 32) and inside[:, :, [0, 8]].sum() == 0 and inside[0, :, 1:8].any(2).all()
    place = (torch.arange(32) * image.affine[2, 2] + image.affine[2, 3]) / 2  # in slices of the scan
    away = (place[:, None] - torch.arange(10)).abs()
    line = inside[0, 0, 4]
    assert line[away.argmin(0)].all()
    assert torch.equal(line, away.min(1).values < max(step, 1.0001) / 2)
    first, last = line.nonzero()[[0, -1], 0].tolist()
    assert scan_box(image) == (slice(0, 6), slice(1, 8), slice(first, last + 1))


def test_a_scan_that_fills_the_grid_and_an_image_that_knows_none():
    grid = make_grid((8, 8, 8), (2.0, 2.0, 2.0), (0, 1))
    assert inside_scan(scanned((16, 20, 17), torch.eye(4), grid)).all()
    assert inside_scan(torch.rand(1, 4, 5, 6)).shape == (1, 4, 5, 6) and inside_scan(torch.rand(1, 4, 5, 6)).all()


def test_beyond_a_tilted_gantry_it_is_oblique():
    tilted = torch.diag(torch.tensor([2.0, 2.0, 4.0, 1.0])).double()
    tilted[1, 2] = 3.0
    image = scanned((12, 12, 8), tilted, make_grid((12, 24, 8), (2, 2, 4), (0, 1)))
    inside = inside_scan(image)[0]
    to_scan = torch.linalg.inv(tilted) @ image.affine
    for voxel in torch.cartesian_prod(*[torch.arange(0, n, 3) for n in inside.shape]):
        place = to_scan[:3, :3] @ voxel.double() + to_scan[:3, 3]
        near = (place > -0.45).all() and (place < torch.tensor([11.45, 11.45, 7.45])).all()
        far = (place < -0.7).any() or (place > torch.tensor([11.7, 11.7, 7.7])).any()
        assert not (near and not inside[tuple(voxel)]) and not (far and inside[tuple(voxel)])
    assert 0.2 < inside.float().mean() < 0.6
