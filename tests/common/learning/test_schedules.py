from __future__ import annotations

import math

import pytest
import torch

from common.learning.schedules import WarmCosineLR, advance, ramp_up, teacher_alpha, warm_cosine


def test_in_steps_and_in_their_units_it_is_one_law():
    assert ramp_up(4500, 30000) == pytest.approx(ramp_up(30, 200))
    assert ramp_up(5, 10) == pytest.approx(math.exp(-5 / 4))


def test_ends_are_clipped_and_no_length_means_no_ramp():
    assert ramp_up(-3, 10) == ramp_up(0, 10) == pytest.approx(math.exp(-5))
    assert ramp_up(11, 10) == 1 == ramp_up(0, 0)


def test_teacher_alpha_starts_as_a_copy_and_then_as_a_plain_mean():
    assert [teacher_alpha(t, 0.99) for t in (0, 1, 3)] == [0, 0.5, 0.75]
    assert teacher_alpha(1000, 0.99) == 0.99 > teacher_alpha(98, 0.99)


def test_a_rate_rises_evenly_and_falls_by_half_a_cosine_to_nothing():
    assert [warm_cosine(t, 100, 0.04) for t in range(3)] == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)
    assert warm_cosine(50, 100, 0.04) == pytest.approx(0.5) and warm_cosine(25, 100, 0.0) == pytest.approx(
        0.8536, abs=1e-4
    )
    assert warm_cosine(0, 100, 0.0) == 1 and warm_cosine(100, 100, 0.04) == warm_cosine(170, 100, 0.04) == 0


def test_every_group_keeps_its_own_largest_rate_and_a_longer_run_goes_on_at_its_own_pace():
    def scheduled(total):
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.02)]
        optimizer = torch.optim.SGD(groups)
        return optimizer, WarmCosineLR(optimizer, total, warm_up=0.1)

    optimizer, short = scheduled(20)
    for _ in range(10):
        optimizer.step()
        short.step()
    assert short.get_last_lr() == pytest.approx([0.05, 0.01])
    optimizer, longer = scheduled(40)
    advance(longer, short.last_epoch)
    assert longer.get_last_lr() == pytest.approx([lr * warm_cosine(10, 40, 0.1) for lr in (0.1, 0.02)])
    optimizer.step()
    longer.step()
    assert longer.get_last_lr()[0] == pytest.approx(0.1 * warm_cosine(11, 40, 0.1))
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.02 * warm_cosine(11, 40, 0.1))


def test_a_schedule_that_knows_its_end_stays_there_and_none_goes_back():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4)
    advance(schedule, 9)
    assert schedule.last_epoch == 4
    advance(schedule, 2)
    assert schedule.last_epoch == 4
