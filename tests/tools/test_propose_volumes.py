from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from common.data.datalist import read_datalist
from tools.propose_volumes import main, with_proposed

SIZE = (24, 22, 16)
TIME = ("--max-voxels", "6000")


def write_scan(path, radius: float, seed: int) -> None:
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SIZE), indexing="ij")
    far = np.sqrt(sum((axis / r) ** 2 for axis, r in zip(axes, (radius, radius, 0.7 * radius), strict=True)))
    voxels = 100 * (far < 1) + 60 * (far < 0.4) + np.random.default_rng(seed).normal(0, 2, SIZE)
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), np.eye(4)), path)


@pytest.fixture
def folder(tmp_path):
    """Four scans, three of them much alike; one has a label file that nobody may open."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for number, (name, radius) in enumerate({"a": 7.0, "b": 7.3, "c": 7.6, "odd": 3.0}.items()):
        write_scan(scans / f"{name}.nii.gz", radius, number)
    return scans


def with_datalist(folder, **content):
    entries = [{"image": f"{name}.nii.gz"} for name in ("a", "b", "odd")]
    entries[1]["label"] = "b_label.nii.gz"
    (folder / "b_label.nii.gz").write_bytes(b"never opened")
    shutil.copy(folder / "c.nii.gz", folder / "test.nii.gz")
    given = {
        "name": "four scans",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "organ"},
        "training": entries,
        "unlabeled": [{"image": "c.nii.gz"}],
        "test": [{"image": "test.nii.gz"}],
        **content,
    }
    (folder / "dataset.json").write_text(json.dumps(given))


def test_a_folder_of_scans_gets_a_datalist_with_the_scan_to_draw_on(folder, capsys):
    assert main([str(folder), *TIME]) == 0
    said = capsys.readouterr().out
    written = json.loads((folder / "dataset_proposed_volumes.json").read_text())
    chosen = written["training"][0]["image"].split(".")[0]
    assert chosen in "abc" and f"label: {chosen}" in said and "4 scans on " in said
    assert written["training"] == [{"image": f"{chosen}.nii.gz", "label": f"labelsTr/{chosen}.nii.gz"}]
    assert len(written["unlabeled"]) == 3 and written["labels"] == {"0": "background", "1": "structure"}
    lines = [line for line in said.splitlines() if "odd" in line]
    assert lines and "0.00" in lines[0]


def test_of_a_data_set_all_training_and_unlabelled_scans_are_looked_at_and_no_label(folder, capsys):
    with_datalist(folder)
    assert main([str(folder), "--count", "2", "--output", "two.json", *TIME]) == 0
    written = json.loads((folder / "two.json").read_text())
    assert len(written["training"]) == 2 and len(written["unlabeled"]) == 2
    assert written["test"] == [{"image": "test.nii.gz"}] and written["modality"] == {"0": "MRI"}
    (folder / "labelsTr").mkdir()
    for case in written["training"]:
        (folder / case["label"]).touch()
    assert len(read_datalist(folder, "two.json").training) == 2
    assert "two.json: draw the labels into the files that it names" in capsys.readouterr().out.replace("\n", " ")


def test_among_the_labelled_alone(folder, capsys):
    with_datalist(folder)
    assert main([str(folder), "--among", "labelled", *TIME]) == 0
    written = json.loads((folder / "dataset_proposed_volumes.json").read_text())
    assert written["training"] == [{"image": "b.nii.gz", "label": "b_label.nii.gz"}]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--count", "9"), "--count is 9; wanted 1 to 4"),
        (("--count", "0"), "--count is 0; wanted 1 to 4"),
        (("--output", "dataset.json"), "dataset.json: already there; wanted another --output"),
        (("--among", "labelled", "--datalist", "none.json"), "no training case has a label"),
        (("--datalist", "broken.json"), "broken.nii.gz"),
    ],
)
def test_what_is_refused_before_anything_is_registered(folder, arguments, line, capsys, monkeypatch):
    monkeypatch.setattr("common.atlas.choosing.reach.register_affine", lambda *a, **k: pytest.fail("registered"))
    with_datalist(folder)
    scans = [{"image": f"{name}.nii.gz"} for name in "abc"]
    for name, training in (("none", scans), ("broken", [*scans, {"image": "broken.nii.gz"}])):
        content = {"labels": {"0": "background", "1": "organ"}, "training": training}
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "broken.nii.gz").write_bytes(b"no image")
    assert main([str(folder), *arguments, *TIME]) == 1
    said = capsys.readouterr().err
    assert line in said and all(one.startswith("error: ") for one in said.splitlines())


def test_a_proposal_is_not_replaced_unless_asked(folder, capsys):
    (folder / "dataset_proposed_volumes.json").write_text("mine")
    assert main([str(folder), *TIME]) == 1
    assert (folder / "dataset_proposed_volumes.json").read_text() == "mine"
    assert main([str(folder), "--overwrite", *TIME]) == 0
    assert "training" in json.loads((folder / "dataset_proposed_volumes.json").read_text())


def test_two_scans_are_too_few(folder, capsys):
    for name in ("c", "odd"):
        (folder / f"{name}.nii.gz").unlink()
    assert main([str(folder)]) == 1
    assert "2 scans in training and unlabeled; wanted 3 at least" in capsys.readouterr().err


def test_what_a_mask_tells_about_goes_along(folder):
    (folder / "t_label.nii.gz").touch()
    test = {"image": "test.nii.gz", "label": "t_label.nii.gz", "known_labels": [2]}
    with_datalist(folder, labels={"0": "background", "1": "organ", "2": "core"}, test=[test])
    given = json.loads((folder / "dataset.json").read_text())
    given["training"][1]["known_labels"] = [1]
    (folder / "dataset.json").write_text(json.dumps(given))
    written = with_proposed(read_datalist(folder), ["b", "a"])
    assert [entry.get("known_labels") for entry in written["training"]] == [[1], None]
    assert written["test"] == [test]


def write_review(folder, **dice):
    folder.mkdir(exist_ok=True)
    rows = [f"{case},1,{value},2.0" for case, value in dice.items()]
    (folder / "review.csv").write_text("\n".join(["case,label,predicted_dice,volume_ml", *rows]) + "\n")
    return folder


def test_next_are_scans_without_a_label_and_what_has_one_stays_in_training(folder, tmp_path, capsys):
    with_datalist(folder)
    results = write_review(tmp_path / "results", a=0.99, b=0.1, c=0.4, odd=1.0, elsewhere=0.2)
    assert main([str(folder), "--next", str(results), *TIME]) == 0
    said = capsys.readouterr().out
    assert "label: c\n" in said and "0.40" in said and "to label next, of 3 scans; 1 have a label" in said
    written = json.loads((folder / "dataset_proposed_volumes.json").read_text())
    assert written["training"] == [
        {"image": "b.nii.gz", "label": "b_label.nii.gz"},
        {"image": "c.nii.gz", "label": "labelsTr/c.nii.gz"},
    ]
    assert written["unlabeled"] == [{"image": "a.nii.gz"}, {"image": "odd.nii.gz"}]
    assert "registering  8 of 8" in said  # four scans, to two of them
    assert main([str(folder), "--next", str(results), "--count", "3", "--overwrite", *TIME]) == 0
    written = json.loads((folder / "dataset_proposed_volumes.json").read_text())
    assert len(written["training"]) == 4 and written["unlabeled"] == []


def test_scans_without_a_review_are_said_and_left_out(folder, tmp_path, capsys):
    with_datalist(folder)
    results = write_review(tmp_path / "results", c=0.9)
    assert main([str(folder), "--next", str(results), *TIME]) == 0
    said = capsys.readouterr().out
    assert "2 of 3 scans without a label have no review: left out" in said and "label: c\n" in said


@pytest.mark.parametrize(
    ("dice", "arguments", "line"),
    [
        (None, (), "review.csv: no such file; wanted a folder that inference.json wrote"),
        ({"x": 0.5, "y": 0.6}, (), "has 2 scans (x, ...), none of the 3 without a label in"),
        ({"a": 0.5, "c": 0.6}, ("--count", "3"), "--count is 3; wanted 1 to 2"),
        ({"a": "much"}, (), "line 2 has much and 2.0 ml; wanted what inference.json wrote"),
        ({"a": 0.5}, ("--among", "labelled"), "--among labelled: found beside --next"),
    ],
)
def test_a_review_that_does_not_fit_is_one_line(folder, tmp_path, dice, arguments, line, capsys, monkeypatch):
    monkeypatch.setattr("common.atlas.choosing.reach.register_affine", lambda *a, **k: pytest.fail("registered"))
    with_datalist(folder)
    results = tmp_path / "results"
    results.mkdir()
    if dice is not None:
        write_review(results, **dice)
    assert main([str(folder), "--next", str(results), *arguments, *TIME]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and line in said[0] and said[0].startswith("error: ")


def test_where_all_have_a_label_there_is_no_next(folder, tmp_path, capsys):
    entries = [{"image": f"{name}.nii.gz", "label": "b_label.nii.gz"} for name in ("a", "b", "c")]
    with_datalist(folder, training=entries, unlabeled=[])
    results = write_review(tmp_path / "results", a=0.5)
    assert main([str(folder), "--next", str(results), *TIME]) == 1
    assert "every scan in training has a label; wanted some without one" in capsys.readouterr().err
