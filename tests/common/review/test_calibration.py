"""What is kept of how far probabilities come true."""

from __future__ import annotations

import pytest

from common.review.calibration import Calibration, expected_error, read_calibration


def test_the_expected_error_weighs_bins_by_their_voxels():
    assert expected_error([(0.2, 0.1, 30), (0.9, 0.6, 10)]) == pytest.approx((30 * 0.1 + 10 * 0.3) / 40)
    assert expected_error([]) == 0


def test_it_says_whether_a_temperature_is_used_and_of_how_many_cases_it_is():
    bins = {4: [(0.9, 0.6, 10)]}, {4: [(0.7, 0.6, 10)]}
    used = Calibration(2.0, 2.0, 5, (0.4, 0.3), *bins)
    assert used.ece == (pytest.approx(0.3), pytest.approx(0.1))
    said = "probabilities at a temperature of 2.00, by 5 cases (calibration error 0.300 to 0.100 on cases left out)"
    assert used.describe() == said
    assert "2.00 doesn't help" in Calibration(1.0, 2.0, 5, (0.4, 0.5), *bins).describe()
    assert Calibration().describe() == "probabilities as the network gives them"


@pytest.mark.parametrize("content", [[], {"temperature": 0}, {"temperature": "warm"}, {"nll": [1]}, {"bins": {}},
                                     {"before": {"1": [[0.1]]}}, {"before": {"one": []}}])  # fmt: skip
def test_what_it_is_not_is_an_error(content):
    with pytest.raises((TypeError, ValueError)):
        read_calibration(content)
