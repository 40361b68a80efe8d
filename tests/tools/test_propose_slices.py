from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from common.data.datalist import read_datalist
from common.data.selection import given_label_slices
from tools.propose_slices import main

SIZE = (8, 10, 12)
# case -> label -> first and last slice; the second case is stored from head to foot, coronal in front
CLICKS = {"a": {1: (2, 9), 2: (4, 7)}, "b": {1: (3, 10), 2: None}, "c": {1: (1, 8), 2: (5, 9)}}


@pytest.fixture
def folder(tmp_path):
    """Three cases with two clicks a label and no mask; the second lies flipped along its slices, 3 mm apart."""
    for number, case in enumerate(CLICKS):
        affine = np.diag([1.0, 1.0, -3.0 if case == "b" else 3.0, 1.0])
        affine[2, 3] = 40.0
        image = nibabel.Nifti1Image(np.random.default_rng(number).random(SIZE, dtype=np.float32), affine)
        nibabel.save(image, tmp_path / f"{case}.nii.gz")
    training = [
        {
            "image": f"{case}.nii.gz",
            "note": case,
            "slice_labels": {
                "axis": 2,
                "labels": {
                    str(value): None if ends is None else dict(zip(("first", "last"), ends, strict=True))
                    for value, ends in clicks.items()
                },
            },
        }
        for case, clicks in CLICKS.items()
    ]
    labels = {"0": "background", "1": "body", "2": "core"}
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "clicks", "labels": labels, "training": training}))
    return tmp_path


def entries(folder, name="dataset_proposed.json") -> list[dict]:
    return json.loads((folder / name).read_text(encoding="utf-8"))["training"]


def test_every_patient_gives_slices_from_the_middle_of_its_structures(folder, capsys):
    assert main([str(folder), "--num-label-slices", "3"]) == 0
    given = {entry["note"]: entry for entry in entries(folder)}
    assert [len(given[case]["label_slices"]) for case in CLICKS] == [1, 1, 1]
    assert 5 <= given["b"]["label_slices"][0] <= 8  # the inner half of 3 to 10
    assert {case: given[case]["label"] for case in CLICKS} == {case: f"labelsTr/{case}.nii.gz" for case in CLICKS}
    said = capsys.readouterr().out
    assert "masks on 3 slices of 3 cases" in said and "dataset_proposed.json" in said
    (index,) = given["b"]["label_slices"]
    assert f"{40 - 3 * index:.1f}" in said and "axial slices" in " ".join(said.split())


def test_the_datalist_is_ready_once_the_masks_are_drawn(folder, capsys):
    assert main([str(folder), "--num-label-slices", "2"]) == 0
    proposed = [entry for entry in entries(folder) if "label_slices" in entry]
    assert len(proposed) == 2 and all("label" not in e for e in entries(folder) if e not in proposed)
    (folder / "labelsTr").mkdir()
    for entry in proposed:
        image = nibabel.load(folder / entry["image"])
        mask = np.zeros(SIZE, np.uint8)
        mask[2:5, 2:5, entry["label_slices"]] = 1
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), folder / entry["label"])
    datalist = read_datalist(folder, "dataset_proposed.json")
    assert given_label_slices(datalist) == {entry["note"]: entry["label_slices"] for entry in proposed}
    capsys.readouterr()
    # a second budget goes on from there, and a small one begins a large one
    assert (
        main([str(folder), "--num-label-slices", "6", "--datalist", "dataset_proposed.json", "--output", "more.json"])
        == 0
    )
    more = {entry["note"]: entry.get("label_slices", []) for entry in entries(folder, "more.json")}
    assert all(set(entry["label_slices"]) <= set(more[entry["note"]]) for entry in proposed)
    assert sum(map(len, more.values())) == 6


def test_another_seed_is_another_draw_and_any_slice_may_come(folder, capsys):
    drawn = set()
    for seed in range(12):
        options = [
            "--num-label-slices",
            "1",
            "--draw-from-middle",
            "1",
            "--seed",
            str(seed),
            "--output",
            f"{seed}.json",
        ]
        assert main([str(folder), *options]) == 0
        drawn |= {(e["note"], *e["label_slices"]) for e in entries(folder, f"{seed}.json") if "label_slices" in e}
    assert len(drawn) > 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-label-slices", "0"], "num_label_slices is 0; wanted 1 to 25"),
        (["--num-label-slices", "99"], "num_label_slices is 99; wanted 1 to 25"),
        (["--draw-from-middle", "0"], "draw_from_middle is 0.0; wanted a share above 0 and up to 1"),
        (["--output", "dataset.json"], "dataset.json: already there; wanted another --output"),
        (["--output", "dataset.json", "--overwrite"], "dataset.json: already there"),
        (["--datalist", "none.json"], "none.json"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(folder, capsys, options, words):
    before = sorted(path.name for path in folder.iterdir())
    assert main([str(folder), *options]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_proposal_is_replaced_only_when_asked(folder, capsys):
    assert main([str(folder)]) == 0 and main([str(folder)]) == 1
    assert "already there" in capsys.readouterr().err
    assert main([str(folder), "--num-label-slices", "1", "--overwrite"]) == 0
    assert sum("label_slices" in entry for entry in entries(folder)) == 1
