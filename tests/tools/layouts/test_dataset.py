"""Who is held out of a data set in another layout, and how its files come to the folder that is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.errors import InputError
from tools.layouts.dataset import Published, Scan, bring, split, write_dataset
from tools.layouts.published import HELD_OUT


def scans(count: int) -> list[Scan]:
    return [Scan(f"s{number:03d}", Path("x"), None) for number in range(count)]


def test_oasis_at_its_published_size():
    found = [Scan(f"OASIS_OAS1_{number:04d}_MR1", Path("x"), None) for number in range(414)]
    parts = split(Published({}, {}, found), *HELD_OUT["oasis"], seed=0)
    assert [len(parts[part]) for part in ("training", "validation", "test")] == [314, 20, 80]
    assert sorted(scan.case for part in parts.values() for scan in part) == [scan.case for scan in found]


def test_published_test_cases_stay_and_no_further_ones_are_drawn():
    published = Published({}, {}, scans(4), test=[Scan("t", Path("x"), None)])
    parts = split(published, validation=1, test=3, seed=0)
    assert [scan.case for scan in parts["test"]] == ["t"]
    assert (len(parts["training"]), len(parts["validation"])) == (3, 1)
    with pytest.raises(InputError, match="found 4 cases, 4 of them to hold out; wanted at least 5 cases"):
        split(published, validation=4, test=0, seed=0)


def test_a_file_is_linked_copied_or_converted(tmp_path):
    source = tmp_path / "a.nii.gz"
    source.write_text("voxels")
    bring(source, tmp_path / "new/linked.nii.gz", copy=False)
    bring(source, tmp_path / "new/copied.nii.gz", copy=True)
    bring(source, tmp_path / "new/converted.nii.gz", False, lambda path, kind, target: target.write_text(kind), "label")
    assert os.path.samefile(source, tmp_path / "new/linked.nii.gz")
    assert not os.path.samefile(source, tmp_path / "new/copied.nii.gz")
    assert (tmp_path / "new/copied.nii.gz").read_text() == "voxels"
    assert (tmp_path / "new/converted.nii.gz").read_text() == "label"
    bring(source, tmp_path / "new/linked.nii.gz", copy=False)  # once more
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "converted.nii.gz", "copied.nii.gz", "linked.nii.gz",
    ]  # fmt: skip


def test_a_broken_run_leaves_no_datalist(tmp_path):
    published = Published({}, {0: "background", 1: "x"}, [Scan("a", tmp_path / "nowhere.nii.gz", None)])
    with pytest.raises(OSError, match="nowhere"):
        write_dataset(published, split(published, 0, 0, 0), tmp_path / "out", copy=False)
    assert not (tmp_path / "out/dataset.json").exists()
