"""What a score is worth, and what is unlike the training, as it is kept beside a model."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from common.errors import InputError
from common.review.features import Features
from common.review.knowledge import Knowledge, learn, read_knowledge

SAID = "made up"


def features(score, volume=20.0, spread=1.2):
    return Features(score, None, volume, spread)


def test_scores_that_promise_too_much_are_mapped_to_what_came_of_them_and_the_order_stays():
    scores = np.linspace(0.5, 0.95, 20)
    known = learn([{1: features(s)} for s in scores], [[[0.1] * 5]] * 20, [{1: s - 0.2} for s in scores], SAID)
    assert known.predict(0.9)[0] == pytest.approx(0.7, abs=0.06)
    found = [known.predict(s)[0] for s in np.linspace(0, 1, 50)]
    assert found == sorted(found)
    dice, low, high = known.predict(0.8)
    assert low < dice < high and high - low < 0.3  # of twenty cases that agree it is narrow


def test_without_any_truth_a_score_counts_as_it_is_within_a_wide_interval():
    known = learn([{1: features(0.9)}] * 5, [[[0.1] * 5]] * 5, [{}] * 5, SAID)
    dice, low, high = known.predict(0.6)
    assert dice == pytest.approx(0.6) and low == pytest.approx(0.35) and high == pytest.approx(0.85)
    assert Knowledge().predict(0.6) == pytest.approx((0.6, 0.35, 0.85))


def test_another_volume_shape_or_image_is_unlike_what_was_learnt_from():
    volumes = [18, 20, 22, 25, 19]
    images = [[[0.1, 0.2, 0.3, 0.4, v / 100]] for v in (50, 52, 49, 51, 50)]
    known = learn([{1: features(0.9, v)} for v in volumes], images, [{}] * 5, SAID)
    assert abs(known.unlike(1, features(0.9, 21))["volume"]) < 1
    assert known.unlike(1, features(0.9, 100))["volume"] > 4 and known.unlike(1, features(0.9, 3))["volume"] < -4
    assert known.unlike(1, features(0.9, 20, 3.0))["shape"] > 4
    assert known.unlike_image(images[0]) < 1 and known.unlike_image([[0.1, 0.2, 0.3, 0.4, 0.9]]) > 6
    assert known.unlike(2, features(0.9)) == {}


def test_what_is_kept_is_of_one_model_alone(tmp_path):
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    known = learn([{1: features(0.9)}] * 5, [[[0.1] * 5]] * 5, [{1: 0.7}] * 5, SAID)
    known.save(model)
    again = read_knowledge(model)
    assert again.volume == {1: pytest.approx((math.log(20), 0.2))} and again.dice == known.dice
    model.write_bytes(b"other weights")
    assert read_knowledge(model) == Knowledge()


@pytest.mark.parametrize("text", ["no json", "[]", json.dumps({"nobody": 1}), json.dumps({"volume": 3})])
def test_a_file_that_is_none_of_ours_is_named(tmp_path, text):
    (tmp_path / "review.json").write_text(text)
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(InputError, match=r"review\.json"):
        read_knowledge(tmp_path / "model.pt")
