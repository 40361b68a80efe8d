from __future__ import annotations

import math

import pytest

from common.learning.schedules import ramp_up, teacher_alpha


def test_in_steps_and_in_their_units_it_is_one_law():
    assert ramp_up(4500, 30000) == pytest.approx(ramp_up(30, 200))
    assert ramp_up(5, 10) == pytest.approx(math.exp(-5 / 4))


def test_ends_are_clipped_and_no_length_means_no_ramp():
    assert ramp_up(-3, 10) == ramp_up(0, 10) == pytest.approx(math.exp(-5))
    assert ramp_up(11, 10) == 1 == ramp_up(0, 0)


def test_teacher_alpha_starts_as_a_copy_and_then_as_a_plain_mean():
    assert [teacher_alpha(t, 0.99) for t in (0, 1, 3)] == [0, 0.5, 0.75]
    assert teacher_alpha(1000, 0.99) == 0.99 > teacher_alpha(98, 0.99)
