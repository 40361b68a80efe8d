from __future__ import annotations

import math

import numpy as np
import pytest

from tools.learning.curve import RATE, can_tell_rate, expect, fit_curve


def scores_of(means, cases: int = 12, seed: int = 0) -> np.ndarray:
    """Return Dice [runs, cases] of just these means; cases differ, in all runs alike."""
    apart = np.random.default_rng(seed).normal(0, 0.03, cases)
    return np.asarray(means)[:, None] + (apart - apart.mean())


def test_two_numbers_of_labels_are_met_and_the_rate_is_assumed():
    curve = fit_curve([1, 4], [0.6, 0.7])
    assert curve([1, 4]) == pytest.approx([0.6, 0.7]) and curve.rate == RATE and not curve.fitted
    assert float(curve(16)) == pytest.approx(0.75)  # half the distance to .8, its end, with every fourfold number
    assert 1 - curve.floor == pytest.approx(0.8) and curve.rises


def test_four_numbers_of_labels_tell_the_rate():
    labels = np.array([1, 2, 4, 8])
    for rate in (0.3, 0.8):
        curve = fit_curve(labels, 0.9 - 0.4 * labels**-rate)
        assert curve.fitted and curve.rate == pytest.approx(rate, abs=0.03)
        assert float(curve(32)) == pytest.approx(0.9 - 0.4 * 32**-rate, abs=0.005)
    assert not can_tell_rate([1, 1, 2, 2, 4, 4]) and can_tell_rate([1, 2, 4, 8, 8])


def test_no_curve_ends_above_a_dice_of_1_or_falls():
    steep = fit_curve([1, 2, 4], [0.05, 0.4, 0.8])  # it fails with one label: faster than the assumed rate
    assert steep.floor == 0 and steep.rate > 0.8 and steep([1, 4]) == pytest.approx([0.05, 0.8], abs=0.1)
    assert 0.8 < float(steep(8)) < float(steep(16)) <= 1
    falling = fit_curve([1, 2, 4], [0.7, 0.6, 0.65])
    assert not falling.rises and float(falling(16)) == pytest.approx(0.65)


def test_more_draws_make_an_interval_smaller_and_unlike_draws_larger():
    truth = 0.9 - 0.3 * np.array([1, 2, 4]) ** -0.5
    once = expect([1, 2, 4], scores_of(truth), [8, 16])
    often = expect([1, 2, 4] * 6, scores_of(np.tile(truth, 6)), [8, 16])
    wild = expect([1, 2, 4] * 6, scores_of(np.tile(truth, 6) + np.tile([0.1, -0.1], 9)), [8, 16])
    width = [float((found.high - found.low)[0]) for found in (once, often, wild)]
    assert width[1] < width[0] < width[2] and often.spread < once.spread < wild.spread
    assert once.dice == pytest.approx(0.9 - 0.3 * np.array([8, 16]) ** -0.5)
    assert (once.low <= once.dice).all() and (once.dice <= once.high).all()
    assert (once.surplus, often.surplus) == (1, 16) and once.rising > 0.9
    again = expect([1, 2, 4], scores_of(truth), [8, 16])
    assert (again.low == once.low).all() and again.rising == once.rising  # the same runs, the same words


def test_nine_of_ten_runs_lie_in_the_interval_of_two_runs(monkeypatch):
    """By two single runs nothing is known of what a draw changes, which is where an interval is soonest too small."""
    monkeypatch.setattr("tools.learning.curve.RESAMPLINGS", 200)
    random, inside = np.random.default_rng(3), []
    for number in range(30):
        end, fall, rate = random.uniform(0.8, 0.95), random.uniform(0.1, 0.4), random.uniform(0.25, 1)
        means = [end - fall * n**-rate + random.normal(0, 0.03) for n in (1, 2)]
        found = expect([1, 2], scores_of(means, seed=number), [4], seed=number)
        once_more = end - fall * 4**-rate + random.normal(0, 0.03)
        inside.append(bool(found.low[0] <= once_more <= found.high[0]))
    assert np.mean(inside) >= 0.8


def test_cases_without_a_dice_are_left_out():
    scores = scores_of([0.6, 0.7])
    scores[0, :3] = math.nan
    found = expect([1, 4], scores, [8])
    assert np.isfinite([found.dice, found.low, found.high]).all()
