from __future__ import annotations

import numpy as np
import pytest

from support.bundle.path import import_bundle

evidence = import_bundle("weakmedsam", "classifier.evidence")
SLICES = 20


def scans(count: int, shown: float, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scans whose label begins at a slice of its own in each; its feature shows it, another one shows the height."""
    random = np.random.default_rng(seed)
    features, bits = [], []
    for _ in range(count):
        first = random.integers(4, 10)
        own = np.zeros((1, SLICES), bool)
        own[0, first : first + 8] = True
        height = np.arange(SLICES) / SLICES
        noise = 0.1 * random.standard_normal((SLICES, 3))
        features.append(np.stack([shown * own[0], height, height**2], axis=1) + noise)
        bits.append(own)
    return features, bits


def test_an_image_that_shows_the_label_is_above_chance():
    ((found, wanted),) = evidence.image_evidence(*scans(8, shown=1.0))
    assert found > 0.9 > wanted
    assert not evidence.without_evidence([(found, wanted)], ["1 (liver)"], 8)


@pytest.mark.parametrize("seed", range(3))
def test_height_alone_is_no_evidence(seed):
    found = evidence.image_evidence(*scans(8, shown=0.0, seed=seed))
    (line,) = evidence.without_evidence(found, ["1 (liver)"], 8)
    assert line.startswith("label 1 (liver): ") and "on 8 scans" in line and "draw one typical box" in line
    assert f"in {100 * found[0][0]:.0f} %; wanted more than {100 * found[0][1]:.0f} %" in line


def test_the_answer_for_a_scan_is_learnt_from_the_others_alone():
    features, bits = scans(3, shown=1.0)
    numbers = np.repeat(np.arange(3), SLICES)
    answer = evidence._held_out(np.concatenate(features), numbers)
    assert not answer[numbers[:, None] == numbers[None]].any()
    # ridge by its normal equations, on the third scan
    seen, asked = np.concatenate(features[:2]), features[2]
    mean, deviation = seen.mean(0), seen.std(0) + 1e-6
    x, y = (seen - mean) / deviation, 2.0 * np.concatenate(bits[:2], axis=1)[0] - 1
    weights = np.linalg.solve(x.T @ x + 3 * np.eye(3), x.T @ (y - y.mean()))
    scores = answer[numbers == 2] @ (2.0 * np.concatenate(bits, axis=1)[0] - 1)
    assert np.allclose(scores, (asked - mean) / deviation @ weights)


def test_scans_of_which_all_have_the_label_at_the_same_heights_leave_nothing_to_ask():
    bits = [np.arange(SLICES)[None] < 10] * 4
    features = [np.random.default_rng(n).standard_normal((SLICES, 3)) for n in range(4)]
    ((found, _),) = evidence.image_evidence(features, [np.ones((1, SLICES), bool)] * 4)
    assert np.isnan(found)
    ((found, wanted),) = evidence.image_evidence(features, bits)
    assert evidence.without_evidence([(found, wanted)], ["1"], 4)  # every permutation is as good
