"""What each way of drawing does to the variance of a mean, exactly: by adding up all that can be drawn."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from support.bundle.path import import_bundle

sampling = import_bundle("semisam_plus", "methods.sampling")
SIZE, COUNT = 8, 4


def means(values: list[float], way: str, monkeypatch) -> torch.Tensor:
    """Return the mean over every draw of 4 of 8 places that can come, each as likely as the others.

    A random number stands for a quarter of [0, 1), within which the place that it leads to is the same.
    """
    found = []
    if way == sampling.UNIFORM:
        for places in product(range(SIZE), repeat=COUNT):
            monkeypatch.setattr(torch, "randint", lambda size, shape, places=places: torch.tensor(places))
            found.append(values_at(values, way))
    else:
        groups = COUNT if way == sampling.STRATIFIED else COUNT // 2
        for quarters in product((0.125, 0.375, 0.625, 0.875), repeat=groups):
            monkeypatch.setattr(torch, "rand", lambda count, quarters=quarters: torch.tensor(quarters))
            found.append(values_at(values, way))
    return torch.stack(found)


def values_at(values: list[float], way: str) -> torch.Tensor:
    places = sampling.draw(SIZE, COUNT, way)
    assert len(places) == COUNT
    return torch.tensor(values)[places].mean()


RISING = [0.0, 1, 2, 3, 4, 5, 6, 7]
STEPS = [0.0, 0, 2, 2, 4, 4, 9, 9]  # alike within a group of two
MIXED = [3.0, -1, 4, 1, -5, 9, 2, 6]


@pytest.mark.parametrize("values", [RISING, STEPS, MIXED])
@pytest.mark.parametrize("way", sampling.SAMPLINGS)
def test_the_mean_of_a_draw_is_right_on_average(way, values, monkeypatch):
    torch.testing.assert_close(means(values, way, monkeypatch).mean(), torch.tensor(values).mean())


@pytest.mark.parametrize("values", [RISING, STEPS, MIXED])
def test_the_variance_is_that_of_the_formulas(values, monkeypatch):
    given = torch.tensor(values)
    drawn = {way: means(values, way, monkeypatch).var(correction=0) for way in sampling.SAMPLINGS}
    torch.testing.assert_close(drawn["uniform"], given.var(correction=0) / COUNT)
    # of the groups of two there is left what varies within them
    within = given.view(COUNT, 2).var(1, correction=0)
    torch.testing.assert_close(drawn["stratified"], within.mean() / COUNT)
    # of the groups of four what varies between pairs of mirror images
    pairs = (given.view(2, 4) + given.view(2, 4).flip(1))[:, :2] / 2
    torch.testing.assert_close(drawn["antithetic"], pairs.var(1, correction=0).mean() / 2)
    assert drawn["stratified"] <= drawn["uniform"]  # always: what varies between groups is gone


def test_groups_of_the_same_are_drawn_without_variance_and_a_slope_in_mirrored_pairs(monkeypatch):
    assert means(STEPS, "stratified", monkeypatch).var(correction=0) == 0
    assert means(RISING, "antithetic", monkeypatch).var(correction=0) == 0
    assert means(RISING, "stratified", monkeypatch).var(correction=0) > 0


@pytest.mark.parametrize("way", sampling.SAMPLINGS)
@pytest.mark.parametrize(("size", "count"), [(1, 8), (3, 8), (1000, 7), (5, 1)])
def test_any_number_of_any_number_of_places(way, size, count):
    places = sampling.draw(size, count, way)
    assert places.shape == (count,) and places.dtype == torch.int64
    assert places.min() >= 0 and places.max() < size


def test_each_place_is_as_likely_as_any_other():
    torch.manual_seed(0)
    for way in sampling.SAMPLINGS:
        counts = torch.bincount(torch.cat([sampling.draw(10, 6, way) for _ in range(5000)]), minlength=10)
        assert (counts / 30_000 - 0.1).abs().max() < 0.01, (way, counts)


def test_voxels_are_ordered_by_slices_of_blocks():
    size = torch.Size((8, 8, 8))
    ordered = sampling.by_blocks(torch.arange(512), size)
    x, y, z = ordered // 64, ordered // 8 % 8, ordered % 8
    for group in torch.arange(512).split(64):  # a block of 4 x 4 x 4 each
        assert all(len(torch.unique(axis[group] // 4)) == 1 for axis in (x, y, z))
    assert (z[:256] < 4).all() and (z[256:] >= 4).all()
