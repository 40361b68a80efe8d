from __future__ import annotations

import numpy as np
import pytest

from support.bundle.path import import_bundle

telling = import_bundle("weakmedsam", "prior.telling")
LABELS = {0: "background", 1: "right ventricle", 2: "myocardium", 4: "left ventricle"}


def on(slices: int, *ranges: tuple[int, int]) -> np.ndarray:
    """Bits of labels on the slices from the first to before the last of each range."""
    bits = np.zeros((len(ranges), slices), bool)
    for row, (first, last) in enumerate(ranges):
        bits[row, first:last] = True
    return bits


def test_a_heart_of_ten_thick_slices_is_refused_in_one_line_that_names_its_labels():
    # the right ventricle ends a slice before the others, so that 1 of 8 and 1 of 9 slices differ
    cases = [on(10, (1, 8), (1, 9), (1, 9)), on(10, (0, 8), (0, 9), (0, 9))]
    (line,) = telling.untold(cases, LABELS)
    for words in ("1 (right ventricle), 2 (myocardium), 4 (left ventricle)", "at most 12 %", "wanted 25 %", "ada_sam"):
        assert words in line


def test_labels_that_follow_one_another_or_have_slices_of_their_own_are_told():
    assert not telling.untold([on(40, (5, 15), (15, 30), (12, 22))], LABELS)
    assert not telling.untold([on(30, (0, 12)), on(30, (8, 20))], {0: "background", 1: "liver"})


def test_a_label_that_is_on_nearly_every_slice_is_refused():
    labels = {0: "background", 1: "spine"}
    assert not telling.untold([on(10, (0, 9)), on(10, (1, 10))], labels)  # 90 %
    (line,) = telling.untold([on(10, (0, 10)), on(10, (1, 10))], labels)
    assert "label 1 (spine): is on 95 % of the slices" in line and "at most 90 %" in line


def test_only_labels_that_are_alike_are_one_group():
    bits = on(20, (2, 12), (2, 11), (12, 20), (12, 19))
    ((first, some), (second, more)) = telling.alike(bits)
    assert (first, second) == ([0, 1], [2, 3]) and some == pytest.approx(0.1) and more == pytest.approx(1 / 8)


def test_slices_with_neither_label_say_nothing_of_the_two():
    short, long = on(10, (2, 6), (4, 8)), on(100, (2, 6), (4, 8))
    assert telling.different(*short) == telling.different(*long) == pytest.approx(4 / 6)
    assert telling.different(*on(10, (0, 0), (0, 0))) == 1
