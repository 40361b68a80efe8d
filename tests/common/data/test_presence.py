from __future__ import annotations

import json

import numpy as np
import pytest

from common.data.presence import derive_slice_labels, foreground_values, read_slice_labels, slice_labels_entry
from common.errors import InputError

LABELS = {0: "background", 2: "liver", 7: "spleen"}
SHAPE = (5, 6, 4)


def mask() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 2:4, 1] = 2
    label[2, 3:5, 3] = 2
    label[4, 5, 0:2] = 7
    return label


def read(labels: dict, axis: object = 2, **more):
    return read_slice_labels({"axis": axis, "labels": labels, **more}, SHAPE, LABELS, "scan")


def test_bits_two_clicks_and_null_are_read():
    found = read({"2": [0, 1, 0, 1], "7": None})
    assert found.axis == 2 and found.bits.tolist() == [[False, True, False, True], [False] * 4]
    assert found.share.tolist() == [0.5, 0]
    found = read({"2": {"first": 1, "last": 3}, "7": {"first": 5, "last": 5}}, axis=1)
    assert found.bits.astype(int).tolist() == [[0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]]


def test_a_file_is_read_like_the_object_in_it(tmp_path):
    path = tmp_path / "scan.json"
    path.write_text(json.dumps({"axis": 0, "labels": {"2": None, "7": [1, 0, 0, 0, True]}}))
    assert read_slice_labels(str(path), SHAPE, LABELS, "scan").bits[1].tolist() == [True, False, False, False, True]
    for content, words in (("{", "not valid JSON"), ("[]", "found []"), ('{"axis": 1}', "wanted {")):
        path.write_text(content)
        with pytest.raises(InputError, match=r"scan: slice_labels scan\.json") as caught:
            read_slice_labels(str(path), SHAPE, LABELS, "scan")
        assert words in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_slice_labels(str(tmp_path / "none.json"), SHAPE, LABELS, "scan")


def test_all_that_is_wrong_is_said_together():
    with pytest.raises(InputError) as caught:
        read({"2": [0, 1, 1], "3": None}, note="x")
    lines = caught.value.problems
    assert len(lines) == 4 and all("scan: slice_labels" in line for line in lines)
    for words in ("the key note", "label 3 is not one", "label 2 (liver) has 3 bits; wanted 4", "label 7 (spleen) is"):
        assert any(words in line for line in lines), words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0, 1, 2, 0], "has 2 among its bits"),
        ([0, 1, "1", 0], 'has "1" among its bits'),
        ({"first": 2, "last": 1}, "first 2 behind last 1"),
        ({"first": 0, "last": 4}, "from 0 to 3"),
        ({"first": -1, "last": 2}, "from 0 to 3"),
        ({"first": 1}, "from 0 to 3"),
        (True, "is true; wanted a list"),
        ("1-3", "wanted a list"),
    ],
)
def test_bits_that_are_none(given, words):
    with pytest.raises(InputError) as caught:
        read({"2": given, "7": None})
    assert len(caught.value.problems) == 1 and words in caught.value.problems[0]


@pytest.mark.parametrize("axis", [3, -1, "axial", None, True])
def test_an_axis_that_is_none(axis):
    with pytest.raises(InputError, match="wanted 0, 1 or 2"):
        read({"2": None, "7": None}, axis=axis)


def test_bits_derived_from_a_mask_survive_the_file_in_both_forms():
    for axis in range(3):
        found = derive_slice_labels(mask(), axis, LABELS)
        entry = json.loads(json.dumps(slice_labels_entry(found, LABELS)))
        assert np.array_equal(read_slice_labels(entry, SHAPE, LABELS, "scan").bits, found.bits)
    clicks = slice_labels_entry(derive_slice_labels(mask(), 2, LABELS), LABELS, two_clicks=True)
    assert clicks["labels"] == {"2": {"first": 1, "last": 3}, "7": {"first": 0, "last": 1}}
    assert read_slice_labels(clicks, SHAPE, LABELS, "scan").bits[0].tolist() == [False, True, True, True]  # gap filled
    empty = slice_labels_entry(derive_slice_labels(np.zeros(SHAPE), 0, LABELS), LABELS)
    assert empty["labels"] == {"2": None, "7": None}
    assert foreground_values(["0", "7", 2]) == [2, 7]
