from __future__ import annotations

import math

import pytest

from support.bundle.path import import_bundle

schedules = import_bundle("semisam_plus", "methods.schedules")

# the table of SemiSAM+ and of its first version: steps, length of the ramp in their units of 150 steps, top of beta
PLUS, FIRST = (30000, 200, 0.01), (6000, 40, 0.05)


@pytest.mark.parametrize(
    ("form", "share", "wanted"),
    [
        (PLUS, 0.0, 0.00067),
        (PLUS, 0.5, 0.0287),
        (PLUS, 1.0, 0.1),
        (FIRST, 0.0, 0.00067),
        (FIRST, 0.5, 0.0287),
        (FIRST, 1.0, 0.0997),
    ],
)
def test_lambda_of_the_papers_table(form, share, wanted):
    total, length, _ = form
    step = min(round(share * total), total - 1)
    assert 0.1 * schedules.ramp_up(step // 150, length) == pytest.approx(wanted, abs=6e-5)


@pytest.mark.parametrize(
    ("form", "share", "wanted"),
    [(PLUS, s, w) for s, w in ((0, 0.01), (0.1, 0.0095), (1 / 3, 0.0057), (0.5, 0.0029), (1, 0.00007))]
    + [(FIRST, s, w) for s, w in ((0, 0.05), (0.1, 0.047), (1 / 3, 0.0271), (0.5, 0.0143), (1, 0.0003))],
)
def test_beta_of_the_papers_table(form, share, wanted):
    total, length, top = form
    units, left = total // 150, (total - round(share * total)) // 150
    assert top * schedules.ramp_down(units - left, units, length) == pytest.approx(wanted, rel=0.015, abs=6e-5)


def test_ends_are_clipped_and_no_length_means_no_ramp():
    assert schedules.ramp_down(0, 10, 0) == 1 == schedules.ramp_down(5, 10, 4)
    assert schedules.ramp_down(12, 10, 4) == pytest.approx(math.exp(-5))


def test_entropy_threshold():
    assert schedules.entropy_threshold(1.0, 2) == pytest.approx(math.log(2))
    assert schedules.entropy_threshold(0.0, 2) == pytest.approx((0.75 + 0.25 * math.exp(-5)) * math.log(2))
    assert schedules.entropy_threshold(1.0, 5) == pytest.approx(math.log(5))
