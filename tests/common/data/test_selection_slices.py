"""What a datalist says of slices, and of masks that tell about some labels alone."""

from __future__ import annotations

import pytest

from common.data.datalist import read_datalist
from common.data.selection import given_label_slices, weakly_labeled
from common.errors import InputError
from support.data.written_datalist import LABELS, files_of, make_dataset, pair, problems_of


def test_slice_labels_file_is_resolved_and_masks_are_dropped(tmp_path):
    bits = {"axis": 2, "labels": {"1": None}}
    training = [pair("a") | {"slice_labels": "slice_labels/a.json", "note": 1}, pair("b") | {"slice_labels": bits}]
    content = {"labels": LABELS, "training": training}
    folder = make_dataset(tmp_path / "data", content, (*files_of("a", "b"), "slice_labels/a.json"))
    datalist = read_datalist(folder)
    assert datalist.training[0]["slice_labels"] == str(folder / "slice_labels/a.json")
    cases = weakly_labeled(datalist)
    assert [sorted(case) for case in cases] == [["case", "image", "slice_labels"]] * 2
    assert cases[1]["slice_labels"] == bits
    training[1]["slice_labels"] = "../b.json"
    assert any("b.json leads outside" in line for line in problems_of(tmp_path / "data", content, files_of("a")))


def test_cases_without_slice_labels_are_named(tmp_path):
    names = [f"scan{index:02d}" for index in range(13)]
    training = [pair(name) for name in names]
    training[4]["slice_labels"] = {"axis": 2, "labels": {"1": None}}
    datalist = read_datalist(make_dataset(tmp_path, {"labels": LABELS, "training": training}, files_of(*names)))
    with pytest.raises(InputError) as caught:
        weakly_labeled(datalist)
    assert len(caught.value.problems) == 11 and "scan00 has no slice_labels" in caught.value.problems[0]
    assert "scan04" not in str(caught.value)
    assert caught.value.problems[-1].startswith("and 2 more: ") and "tools.slice_labels" in caught.value.problems[-1]


def test_label_slices_are_read_and_checked(tmp_path):
    names = "abcdefgh"
    given = [[17, 3], None, [], [3, 3], [-1], ["3"], 4, [True]]
    training = [pair(name) | {"label_slices": slices} for name, slices in zip(names, given, strict=True)]
    files = files_of(*names)
    datalist = read_datalist(make_dataset(tmp_path, {"labels": LABELS, "training": training[:2]}, files))
    assert given_label_slices(datalist) == {"a": [3, 17]}
    del training[7]["label"]
    training[7]["label_slices"] = [2]
    datalist = read_datalist(make_dataset(tmp_path, {"labels": LABELS, "training": training}, files))
    with pytest.raises(InputError) as caught:
        given_label_slices(datalist)
    lines = caught.value.problems
    assert [line.split("training case ")[1][0] for line in lines] == list("cdefgh")
    assert "label_slices is []; wanted indices" in lines[0] and "wanted every slice once" in lines[1]
    assert 'label_slices is ["3"]' in lines[3] and "has label_slices but no label" in lines[5]


def test_known_labels_are_sorted_and_only_there_where_some_are_lacking(tmp_path):
    content = {"labels": LABELS | {"4": "spleen"}, "unlabeled": [{"image": "imagesTr/d.nii.gz"}]}
    known = {"a": [4], "b": [4, 0, 1], "c": None}
    content["training"] = [pair(name) | {"known_labels": values} for name, values in known.items()]
    content["unlabeled"][0]["known_labels"] = "anything"
    found = read_datalist(make_dataset(tmp_path, content, files_of("a", "b", "c", "d")))
    assert [case.get("known_labels") for case in found.training + found.unlabeled] == [[4], None, None, None]


def test_known_labels_that_tell_nothing_are_refused(tmp_path):
    wrong = [[1, 3], [], [0], 1, ["1"], [True], {"1": 1}]
    cases = [pair(name) | {"known_labels": one} for name, one in zip("abcdefg", wrong, strict=True)]
    content = {"labels": LABELS | {"2": "spleen"}, "training": cases}
    content["test"] = [{"image": "imagesTr/h.nii.gz", "known_labels": [1]}]
    problems = problems_of(tmp_path, content, files_of(*"abcdefgh"))
    words = ["has 3; wanted some of 1, 2", "[], which", "[0], which", "is 1;", 'is ["1"];', "is [true];", 'is {"1"']
    for number, (line, word) in enumerate(zip(problems[:-1], words, strict=True)):
        assert f"training[{number}]: known_labels" in line and word in line
    assert "test[0] has known_labels but no label" in problems[-1]
