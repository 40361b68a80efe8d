from __future__ import annotations

import pytest

from common.costs.line import NONE, Clock, Line, Loop, OpenStage


def moments(*walls: float) -> list[Clock]:
    return [Clock(wall, wall / 2) for wall in walls]


def test_seconds_add_up_and_are_subtracted():
    assert Clock(5, 3).since(Clock(2, 1)) == (3, 2) and Clock(1, 1).more(Clock(2, 3), 2) == (5, 7)
    assert Clock.now().since(Clock.now()).wall <= 0


def test_the_first_piece_counts_as_the_others():
    """It took 7 s, the others 2 and 4: 3 at the mean, and 1 of what it did is not done again."""
    loop = Loop([1, 1, 1], 1, Clock(0, 0), moments(7, 9, 13))
    assert [piece.wall for piece in loop.steady()] == [3, 2, 4]
    assert [piece.cpu for piece in loop.steady()] == [1.5, 1, 2]
    assert [piece.wall for piece in Loop([1, 1], 1, Clock(0, 0), moments(1, 9)).steady()] == [1, 8]  # no warming up
    assert [piece.wall for piece in Loop([1], 1, Clock(2, 1), moments(7)).steady()] == [5]


def test_pieces_side_by_side_are_told_by_how_many_are_done_in_a_time():
    """Two at once: the first two after 10 s, the next two 6 s later, so that one takes 3 s more."""
    loop = Loop([1] * 4, 2, Clock(0, 0), moments(9, 10, 15, 16))
    assert [piece.wall for piece in loop.steady()] == [3] * 4
    assert [piece.wall for piece in Loop([1] * 2, 4, Clock(0, 0), moments(9, 10)).steady()] == [5] * 2


def test_what_is_done_once_is_what_the_pieces_leave():
    line = Line("any", "cases", 2, 10, each=Clock(2, 1), in_all=Clock(25, 9))
    assert line.once == (5, 0)


@pytest.mark.parametrize(
    ("here", "count", "training", "ratio"), [(2, 10, False, 5), (2, 10, True, 1), (0, 0, False, 1)]
)
def test_pieces_of_a_real_run_for_each_here(here, count, training, ratio):
    assert OpenStage(Line("any", "", here, count), NONE, 0, 0, training=training).ratio == ratio
