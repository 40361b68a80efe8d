from __future__ import annotations

import numpy as np
import pytest

from tools.federation.updates import find_problem, is_count

SHAPES = {"body.weight": [2, 3], "pixdim": [3]}
FIXED = ["pixdim"]


def sound() -> dict[str, np.ndarray]:
    return {"body.weight": np.full((2, 3), 0.5, np.float32), "pixdim": np.zeros(3, np.float32)}


def test_a_change_of_every_weight_is_sound():
    assert find_problem(sound(), SHAPES, FIXED) == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"body.weight": np.full((3, 2), 0.5)}, "body.weight has the shape [3, 2]; wanted [2, 3]"),
        ({"body.weight": np.array([[0, np.nan, 0], [np.inf, 0, 0]])}, "body.weight has 2 values that are no number"),
        ({"body.weight": np.full((2, 3), "a")}, "body.weight has the type <U1; wanted numbers"),
        ({"pixdim": np.array([0, 0, 0.001])}, "pixdim was changed; wanted it as at the start"),
        ({"body.bias": np.zeros(1)}, "it has the unknown body.bias"),
    ],
)
def test_what_is_wrong_with_a_change_is_said(changed, words):
    assert words in find_problem({**sound(), **changed}, SHAPES, FIXED)


def test_missing_weights_are_named():
    assert find_problem({"pixdim": np.zeros(3)}, SHAPES, FIXED) == "it lacks body.weight"
    assert find_problem({}, SHAPES, FIXED) == "it lacks body.weight and 1 more"


def test_steps_are_a_number_that_can_weigh():
    assert is_count(1e-9) and is_count(30)
    assert not any(is_count(steps) for steps in (0, -1, float("nan"), float("inf"), None, "3", True))
