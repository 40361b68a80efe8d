from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, ResizeWithPadOrCrop, Spacing

from support.bundle.path import import_bundle

location = import_bundle("weakmedsam", "prior.location")
InputError = import_bundle("weakmedsam", "common.errors").InputError

LABELS = {0: "background", 1: "anterior", 2: "posterior"}
BOX = [[0.2, 0.6], [0.5, 1.0], [0.0, 1.0]]


def scan(codes: str, size: tuple[int, int, int] = (20, 24, 10), pixdim: tuple[float, ...] = (1, 1, 2)) -> MetaTensor:
    """A RAS scan whose value is bright in BOX, as if it had been stored in another orientation."""
    values = torch.zeros(1, *size)
    slices = [slice(round(low * n), round(high * n)) for (low, high), n in zip(BOX, size, strict=True)]
    values[(0, *slices)] = 1.0
    affine = np.diag([*pixdim, 1.0])
    affine[:3, 3] = [-30.0, 12.0, 5.0]
    stored = Orientation(codes, labels=None)(MetaTensor(values, affine=affine))
    plain = stored.as_tensor().clone()
    meta = {"spatial_shape": np.asarray(plain.shape[1:]), "original_affine": stored.affine.numpy().copy()}
    return MetaTensor(plain, affine=stored.affine, meta=meta)


def to_grid(image: MetaTensor, size=(32, 16, 24), pixdim=(1.0, 1.5, 1.0)) -> MetaTensor:
    steps = [Orientation("RAS", labels=None), Spacing(pixdim, mode="nearest"), ResizeWithPadOrCrop(size, mode="edge")]
    return Compose(steps)(image)


def test_ellipse_fills_its_share_of_the_box_on_every_slice():
    prior = location.ellipse_prior([[0, 1], [0.25, 0.75], [0.1, 0.6]], (40, 60, 50), 0, fill=1.0, sharpness=None)
    assert prior.shape == (40, 60, 50) and prior.unique().tolist() == [0, 1]
    assert prior.eq(prior[:1]).all()
    assert float(prior[0].sum()) == pytest.approx(np.pi / 4 * 30 * 25, rel=0.02)
    rows, columns = prior[0].nonzero().amin(0).tolist(), prior[0].nonzero().amax(0).tolist()
    assert rows == [15, 5] and columns == [44, 29]
    smaller = location.ellipse_prior([[0, 1], [0.25, 0.75], [0.1, 0.6]], (40, 60, 50), 0, sharpness=None)
    assert float(smaller.sum() / prior.sum()) == pytest.approx(0.81, abs=0.02)


def test_soft_edge_is_half_on_the_ellipse_and_never_beyond_the_slices_of_the_box():
    box = [[0.2, 0.8], [0.2, 0.8], [0.5, 1.0]]
    hard = location.ellipse_prior(box, (64, 64, 8), 2, sharpness=None)
    soft = location.ellipse_prior(box, (64, 64, 8), 2, sharpness=10.0)
    assert (soft > 0.5).float().equal(hard)
    assert soft[..., :4].eq(0).all() and soft[..., 4:].amax() > 0.99
    assert 0 < soft[0, 0, 7] < 0.01


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL"])
def test_a_box_follows_the_scan_onto_the_grid(codes):
    image = to_grid(scan(codes))
    prior = location.location_prior(image, BOX, 2, fill=1.0, sharpness=None)
    inside = image[0].as_tensor() > 0.5
    assert prior.shape == inside.shape and prior.any()
    share = float(prior[inside].mean())
    assert share == pytest.approx(np.pi / 4, abs=0.08)  # an ellipse in its box
    assert float(prior[~inside].mean()) < 0.02
    places = [m.nonzero().double().mean(0) for m in (prior > 0.5, inside)]
    # along A the box reaches the scan's edge, which the grid cuts or repeats
    assert (places[0] - places[1]).abs().max() < 1.0


def test_the_box_may_come_with_the_scan_given_apart():
    stored = scan("LPS")
    image = to_grid(stored)
    known = location.location_prior(image, BOX, 0)
    bare = MetaTensor(image.as_tensor(), affine=image.affine)
    given = location.location_prior(bare, BOX, 0, original_size=stored.shape[1:], original_affine=stored.affine)
    assert known.equal(given)
    with pytest.raises(InputError, match="affine"):
        location.location_prior(bare, BOX, 0)
    with pytest.raises(InputError, match="MetaTensor"):
        location.location_prior(image.as_tensor(), BOX, 0)


def test_fractions_run_from_edge_to_edge_of_the_scan():
    image = scan("PIL")
    grid = Orientation("RAS", labels=None)(image)
    place = location.original_fractions(grid)
    for axis, n in enumerate((20, 24, 10)):
        line = place[axis].movedim(axis, 0)[:, 0, 0]
        assert line.tolist() == pytest.approx([(i + 0.5) / n for i in range(n)], abs=1e-5)


def test_centre_prior_is_the_ellipse_of_half_the_sides_on_every_slice():
    image = to_grid(scan("RAS"), size=(20, 24, 10), pixdim=(1, 1, 2))
    prior = location.centre_prior(image, 1, sharpness=None)
    expected = location.ellipse_prior([[0.25, 0.75], [0, 1], [0.25, 0.75]], (20, 24, 10), 1, 1.0, None)
    assert (prior != expected).float().mean() < 0.01
    assert prior.any(0).any(1).all()


def test_locations_of_a_datalist():
    given = {"locations": {"1": {"box": BOX, "volume_ml": 1.6}, "2": {"volume_ml": 2}}}
    read = location.read_locations(given, LABELS)
    assert read[1] == location.Location(((0.2, 0.6), (0.5, 1.0), (0.0, 1.0)), 1.6)
    assert read[2] == location.Location(None, 2.0)
    assert location.read_locations({}, LABELS) == {1: location.Location(), 2: location.Location()}


def test_all_problems_of_locations_together():
    given = {
        "3": {"volume_ml": 1},
        "anterior": {},
        "1": {"box": [[0.5, 0.2], [0, 1], [0, "1"]], "volume_ml": -1},
        "2": {"box": [[0, 1]], "volume": 3},
    }
    with pytest.raises(InputError) as error:
        location.read_locations({"locations": given}, LABELS, "slices.json")
    text = "\n".join(error.value.problems)
    assert len(error.value.problems) == 6
    assert "slices.json: locations of label 3: no foreground label; wanted one of 1, 2" in text
    assert "box along R is [0.5, 0.2]" in text and "box along S is [0, '1']" in text and "volume_ml is -1" in text
    assert "label anterior" in text and "wanted an object with box" in text
    for wrong in ([], "box"):
        with pytest.raises(InputError, match="locations is"):
            location.read_locations({"locations": wrong}, LABELS)
    for wrong in ([[0, 1]], "abc", [[0, 1], [0, 1], [0, float("nan")]], [[0, 1], [0, 1], [0.5, 1.1]]):
        with pytest.raises(InputError, match="label 1: box"):
            location.read_locations({"locations": {"1": {"box": wrong}}}, LABELS)


def test_a_box_around_another_encloses_it_and_what_that_encloses():
    wall, cavity, clot = (
        [(0.2, 0.8), (0.2, 0.8), (0, 1)],
        [(0.3, 0.7), (0.3, 0.7), (0, 1)],
        [(0.4, 0.5), (0.4, 0.5), (0, 1)],
    )
    beside = [(0.75, 0.95), (0.3, 0.7), (0, 1)]
    assert location.enclosed([wall, cavity, beside, clot], 2) == [[1, 3], [3], [], []]
    assert location.enclosed([cavity, cavity], 2) == [[], []]  # of one size: neither is around the other
    # drawn by eye: a twentieth of it is outside; and along the slices nothing is asked
    rough, short = [(0.19, 0.5), (0.3, 0.7), (0, 1)], [(0.3, 0.7), (0.3, 0.7), (0.4, 0.6)]
    assert location.enclosed([wall, rough], 2) == [[1], []] and location.enclosed([short, cavity, wall], 2)[2] == [0, 1]
    assert location.enclosed([wall, beside], 2) == [[], []]


def test_a_label_reaches_half_a_side_beyond_its_box_in_plane():
    image = scan("LPS")
    reach = location.box_reach(image, [[[0.4, 0.6], [0.5, 1.0], [0.2, 0.4]]], 2)
    ras = Orientation("RAS", labels=None)(MetaTensor(reach, affine=image.affine)).as_tensor().bool()[0]
    # 20 x 24 voxels: from .3 to .7 are rows 6 to 13, from .25 on are columns 6 to 23; all slices
    wanted = torch.zeros(20, 24, 10, dtype=torch.bool)
    wanted[6:14, 6:] = True
    assert ras.equal(wanted)
