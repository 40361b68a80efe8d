from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.training.world_transform import RandWorldTransformd

STILL = {"rotate": 0.0, "scale": 0.0, "translate": 0.0, "prob": 1.0}


def make(pixdim, keys=("image", "label"), seed=0, **options):
    change = RandWorldTransformd(keys, pixdim, **(STILL | options), allow_missing_keys=True)
    change.set_random_state(seed)
    return change


def distances(change, size, pixdim):
    """Return distances between random voxels in mm: where they come from, and where they lie."""
    change.randomize(size)
    where = change.points(size)[:3].flatten(1).T.double() * torch.tensor(pixdim)  # [N, 3] mm
    here = torch.cartesian_prod(*[torch.arange(n).double() for n in size]) * torch.tensor(pixdim)
    one, two = torch.randint(len(here), (2, 500), generator=torch.Generator().manual_seed(0))
    return (where[one] - where[two]).norm(dim=1), (here[one] - here[two]).norm(dim=1)


@pytest.mark.parametrize("pixdim", [(1.0, 1.0, 1.0), (1.0, 2.0, 2.5), (1.5, 1.5, 10.0)])
def test_a_turn_and_a_shift_keep_every_distance_in_mm(pixdim):
    for seed in range(5):
        found, wanted = distances(make(pixdim, seed=seed, rotate=0.5, translate=9.0), (20, 18, 12), pixdim)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


def test_scale_changes_all_distances_alike_and_by_no_more_than_asked():
    ratios = set()
    for seed in range(20):
        found, wanted = distances(make((1, 2, 2.5), seed=seed, scale=0.25, rotate=0.3), (20, 18, 12), (1, 2, 2.5))
        ratio = (found / wanted)[wanted > 0]
        assert float(ratio.max() - ratio.min()) < 1e-3
        ratios.add(round(float(ratio[0]), 4))
    assert len(ratios) == 20 and min(ratios) >= 0.8 and max(ratios) <= 1.25


@pytest.mark.parametrize("thick", [0, 1, 2])
def test_along_thick_slices_nothing_but_a_shift_of_one_slice_at_most(thick):
    pixdim = [1.5, 1.5, 1.5]
    pixdim[thick] = 8.0
    size, shifts = (12, 10, 8), set()
    for seed in range(30):
        change = make(pixdim, seed=seed, rotate=0.5, scale=0.3, stretch=0.1, translate=30.0, bend=5.0)
        change.randomize(size)
        moved = change.points(size)[thick] - make(pixdim).points(size)[thick]
        assert float(moved.max() - moved.min()) < 1e-4
        shifts.add(round(float(moved.mean()), 4))
    assert len(shifts) == 30 and max(map(abs, shifts)) <= 1


def test_a_spacing_of_three_times_the_finest_is_not_thick():
    change = make((1.0, 1.0, 3.0), rotate=0.5)
    change.randomize((9, 9, 9))
    assert abs(change._matrix[2, 0]) > 1e-3


def test_without_a_spacing_of_its_own_a_shift_reaches_three_of_the_finest_voxels():
    change = RandWorldTransformd("image", (2.0, 4.0, 7.0), translate=None)
    assert change.translate.tolist() == [6.0, 6.0, 6.0]
    change.set_random_state(3)
    drawn = []
    for _ in range(200):
        change.randomize((4, 4, 4))
        drawn.append(change._matrix[:3, 3])
    assert np.abs(drawn).max(0) == pytest.approx([3.0, 1.5, 6 / 7], rel=0.05)


def test_a_turn_moves_an_ellipsoid_where_rotated_coordinates_say():
    pixdim, size, widths = torch.tensor([1.0, 2.0, 2.0]), (49, 25, 25), torch.tensor([14.0, 8.0, 8.0])
    centre = (torch.tensor(size) - 1) / 2
    mm = (torch.cartesian_prod(*[torch.arange(n).float() for n in size]) - centre) * pixdim
    change = make(pixdim.tolist(), seed=1, rotate=0.6)
    found = change({"image": torch.exp(-((mm / widths) ** 2).sum(1)).view(1, *size)})["image"]
    to_mm = torch.diag(torch.tensor([*pixdim, 1.0])).double()
    turn = (to_mm @ torch.from_numpy(change._matrix) @ to_mm.inverse())[:3, :3].float()
    assert float((turn - torch.eye(3)).abs().max()) > 0.1
    wanted = torch.exp(-((mm @ turn.T / widths) ** 2).sum(1))
    inside = mm.norm(dim=1) < 14
    torch.testing.assert_close(found.as_tensor().flatten()[inside], wanted[inside], rtol=0, atol=0.04)


def test_maps_move_alike_each_in_its_mode_and_what_is_missing_is_passed_over():
    image = torch.rand(1, 12, 10, 8, generator=torch.Generator().manual_seed(0)).round()
    change = RandWorldTransformd(
        ["image", "weight", "answer"], (1, 1, 2), rotate=0.4, prob=1.0, mode=["bilinear", "nearest", "bilinear"],
        allow_missing_keys=True,
    )  # fmt: skip
    change.set_random_state(0)
    item = {"image": MetaTensor(image), "weight": image.clone(), "case": "a"}
    found = change(item)
    assert set(found) == set(item) and found["case"] == "a"
    assert set(found["weight"].unique().tolist()) == {0.0, 1.0}
    assert 0.1 < float(((found["image"] > 0) & (found["image"] < 1)).float().mean())
    assert float((found["image"].round() - found["weight"]).abs().mean()) < 0.2
    assert torch.equal(item["image"], image)


def test_a_bent_volume_does_not_fold():
    change = make((2.0, 2.0, 3.0), bend=100.0, bend_spacing=20.0)
    for _ in range(5):
        change.randomize((30, 30, 20))
        points = change.points((30, 30, 20))
        assert all(float(points[axis].diff(dim=axis).min()) > 0 for axis in range(3))
        assert float((points[0] - make((2.0, 2.0, 3.0)).points((30, 30, 20))[0]).abs().max()) > 0.5


def test_of_shares_that_sum_to_one_the_sum_stays_one():
    shares = torch.rand(3, 10, 10, 6, generator=torch.Generator().manual_seed(1)).softmax(0)
    found = make((1, 1, 4), keys=["label"], rotate=0.5, scale=0.3, bend=4.0)({"label": shares})["label"]
    torch.testing.assert_close(found.sum(0), torch.ones(10, 10, 6))


def test_the_same_seed_draws_the_same_and_prob_0_leaves_all_as_it_is():
    image = torch.rand(1, 8, 8, 8)
    one, two = (make((1, 1, 1), seed=5, rotate=0.4, bend=2.0)({"image": image})["image"] for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(one, image)
    assert torch.equal(make((1, 1, 1), rotate=0.4, prob=0.0)({"image": image})["image"], image)


def test_a_spacing_that_is_none_is_refused():
    for pixdim in ([1, 1], [1, 0, 1]):
        with pytest.raises(ValueError, match="three spacings above 0"):
            RandWorldTransformd("image", pixdim)
