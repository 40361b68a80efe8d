from __future__ import annotations

from types import SimpleNamespace

import pytest

from common.costs.pieces import Pieces, asked_of_others, case_of, count, let_rehearse, pieces, rehearsal, rehearsed


class Standing:
    """A dry run in which each case stands for ten."""

    def __init__(self):
        self.stages = []

    def count(self, cases):
        return 10.0 * len(cases)

    def stage(self, name, share):
        self.stages.append((name, share))
        return pytest.MonkeyPatch.context()  # any context


@pytest.fixture
def standing():
    let_rehearse(Standing())
    yield rehearsal()
    let_rehearse(None)


def test_a_real_run_does_all_of_its_work():
    assert rehearsal() is None and count(["a", "b"]) == 2 and count("abc", most=2) == 2
    assert pieces(["a", "b", "c"]) == (3, 3, None, False, "cases")
    with rehearsed("any", Pieces(1, 2)):
        pass


def test_a_dry_run_knows_for_how_many_its_cases_stand(standing):
    assert count(["a", "b"]) == 20 and count(["a", "b"], most=12) == 12
    assert pieces(["a", "b", "c"], most=2)[:2] == (2, 2) and pieces(["a"], most=4)[:2] == (1, 4)
    with rehearsed("any", Pieces(1, 2)):
        pass
    assert standing.stages == [("any", Pieces(1, 2))]


def test_the_case_that_a_piece_of_work_is_about():
    about = ["a", {"case": "a", "image": 1}, ("a", 3), ({"case": "a"}, None), SimpleNamespace(case="a")]
    assert [case_of(piece) for piece in about] == ["a"] * 5
    assert case_of(7) == case_of(()) == case_of({}) == ""


def test_in_a_real_run_as_much_is_asked_as_is_done():
    cases = [{"case": f"{i}"} for i in range(6)]
    assert asked_of_others(cases, 3) == pytest.approx(1.0)
    assert asked_of_others(cases[:2], 5) == pytest.approx(1.0)
