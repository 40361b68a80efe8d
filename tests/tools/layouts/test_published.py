"""Three public data sets in their published layouts: which cases, which labels, and what is said of a broken one."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from common.data.checks import check_cases
from common.data.datalist import read_datalist
from tools.datasets import main

ROOT = Path(__file__).parents[2]


def scan(path: Path, seed: int, label: bool = False, highest: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    array = (
        random.integers(0, highest + 1, (4, 5, 6)).astype(np.uint8) if label else random.random((4, 5, 6), np.float32)
    )
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


def make_oasis(source: Path, count: int = 6) -> Path:
    for number in range(1, count + 1):
        folder = source / f"OASIS_OAS1_{number:04d}_MR1"
        scan(folder / "aligned_norm.nii.gz", number)
        scan(folder / "aligned_seg35.nii.gz", number, label=True, highest=35)
        scan(folder / "aligned_seg4.nii.gz", number, label=True, highest=4)
        scan(folder / "norm.nii.gz", number)
    (source / "subjects.txt").write_text("".join(f"OASIS_OAS1_{n:04d}_MR1\n" for n in range(1, count + 1)))
    table = "  0  Background  0 0 0 0\n  1  Left-Cerebral-White-Matter  245 245 245 0\n 35  Right-VentralDC  1 2 3 0\n"
    (source / "seg35_labels.txt").write_text(table)
    return source


def make_hippocampus(source: Path, count: int = 6) -> Path:
    training = []
    for number in range(count):
        name = f"hippocampus_{number:03d}.nii.gz"
        scan(source / "imagesTr" / name, number)
        scan(source / "labelsTr" / name, number, label=True, highest=2)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    scan(source / "imagesTs/hippocampus_100.nii.gz", 100)
    content = {
        "name": "HIPPOCAMPUS",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": training,
        "test": ["./imagesTs/hippocampus_100.nii.gz"],
    }
    (source / "dataset.json").write_text(json.dumps(content))
    return source


def make_la_nrrd(source: Path, count: int = 4) -> Path:
    for number in range(count):
        folder = source / "Training Set" / f"CASE{number}"
        folder.mkdir(parents=True)
        random = np.random.default_rng(number)
        image = SimpleITK.GetImageFromArray(random.integers(0, 200, (4, 5, 6)).astype(np.uint8))
        label = SimpleITK.GetImageFromArray((random.random((4, 5, 6)) > 0.5).astype(np.uint8) * 255)
        for volume, name in ((image, "lgemri.nrrd"), (label, "laendo.nrrd")):
            volume.SetSpacing((0.625, 0.625, 1.25))
            volume.SetOrigin((1.0, 2.0, 3.0))
            SimpleITK.WriteImage(volume, str(folder / name))
    return source


def make_la_h5(source: Path, count: int = 5, write=None) -> Path:
    cases = [f"CASE{number}" for number in range(count)]
    for number, case in enumerate(cases):
        folder = source / "2018LA_Seg_Training Set" / case
        folder.mkdir(parents=True)
        random = np.random.default_rng(number)
        content = {"image": random.normal(size=(4, 5, 6)).astype(np.float32)}
        content["label"] = (random.random((4, 5, 6)) > 0.5).astype(np.uint8)
        write(folder / "mri_norm2.h5", content)
    (source / "train.list").write_text("\n".join(cases[:-2]) + "\n")
    (source / "test.list").write_text("\n".join(cases[-2:]))
    return source


def stand_in_h5py(monkeypatch):
    """Replace h5py, which is optional, by something that reads npz files."""
    module = types.ModuleType("h5py")
    module.File = lambda path, mode: np.load(open(path, "rb"))
    monkeypatch.setitem(sys.modules, "h5py", module)

    def write(path: Path, content: dict[str, np.ndarray]) -> None:
        with path.open("wb") as file:
            np.savez(file, **content)

    return write


def names(cases: list[dict]) -> list[str]:
    return [case["case"] for case in cases]


def error_of(capsys, *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_oasis(tmp_path, capsys):
    source, target = make_oasis(tmp_path / "source"), tmp_path / "target"
    before = sorted(tmp_path.rglob("source/**/*"))
    assert main(["oasis", str(source), str(target), "--validation", "1", "--test", "2"]) == 0
    assert "3 training, 1 validation, 2 test" in capsys.readouterr().out
    datalist = read_datalist(target)
    assert len(datalist.labels) == 36
    assert (datalist.labels[1], datalist.labels[2]) == ("Left-Cerebral-White-Matter", "structure_2")
    cases = datalist.training + datalist.validation + datalist.test
    assert sorted(names(cases)) == [f"OASIS_OAS1_{number:04d}_MR1" for number in range(1, 7)]
    assert check_cases(cases, datalist.labels, dataset_dir=target) == []
    first = cases[0]
    assert os.path.samefile(first["image"], source / first["case"] / "aligned_norm.nii.gz")  # a hard link: no space
    assert os.path.samefile(first["label"], source / first["case"] / "aligned_seg35.nii.gz")
    assert sorted(tmp_path.rglob("source/**/*")) == before
    assert not list(target.rglob("*part*"))


def test_the_split_follows_the_seed(tmp_path):
    source = make_oasis(tmp_path / "source", 12)
    lists = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = ["--validation", "2", "--test", "3", "--seed", str(seed), "--labels", "seg4", "--copy"]
        assert main(["oasis", str(source), str(tmp_path / name), *options]) == 0
        lists[name] = (tmp_path / name / "dataset.json").read_text(encoding="utf-8")
    assert lists["a"] == lists["b"] != lists["c"]
    datalist = read_datalist(tmp_path / "a")
    assert list(datalist.labels) == [0, 1, 2, 3, 4]
    first = datalist.training[0]
    assert not os.path.samefile(first["image"], source / first["case"] / "aligned_norm.nii.gz")


def test_hippocampus(tmp_path):
    source, target = make_hippocampus(tmp_path / "source"), tmp_path / "target"
    assert main(["hippocampus", str(source), str(target), "--validation", "1", "--test", "2"]) == 0
    datalist = read_datalist(target)
    assert datalist.labels == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert [len(group) for group in (datalist.training, datalist.validation, datalist.test)] == [3, 1, 2]
    assert names(datalist.unlabeled) == ["hippocampus_100"]
    assert all("label" in case for case in datalist.test)


def test_la_nrrd(tmp_path):
    source, target = make_la_nrrd(tmp_path / "source"), tmp_path / "target"
    assert main(["la", str(source), str(target), "--validation", "1", "--test", "1"]) == 0
    datalist = read_datalist(target)
    cases = datalist.training + datalist.validation + datalist.test
    assert sorted(names(cases)) == ["CASE0", "CASE1", "CASE2", "CASE3"]
    assert check_cases(cases, datalist.labels, needs_foreground=names(cases)) == []
    image = nibabel.load(cases[0]["image"])
    np.testing.assert_allclose(image.affine, [[-0.625, 0, 0, -1], [0, -0.625, 0, -2], [0, 0, 1.25, 3], [0, 0, 0, 1]])


def test_la_h5_with_its_lists(tmp_path, monkeypatch):
    source = make_la_h5(tmp_path / "source", write=stand_in_h5py(monkeypatch))
    for given, target in ((source, tmp_path / "a"), (source / "2018LA_Seg_Training Set", tmp_path / "b")):
        assert main(["la", str(given), str(target), "--validation", "1"]) == 0
        datalist = read_datalist(target)
        assert names(datalist.test) == ["CASE3", "CASE4"]
        assert sorted(names(datalist.training + datalist.validation)) == ["CASE0", "CASE1", "CASE2"]
        cases = datalist.training + datalist.validation + datalist.test
        assert check_cases(cases, datalist.labels, needs_foreground=names(cases)) == []
    image, label = nibabel.load(datalist.test[0]["image"]), nibabel.load(datalist.test[0]["label"])
    np.testing.assert_allclose(image.header.get_zooms(), [0.625] * 3)
    expected = np.random.default_rng(3).normal(size=(4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(image.dataobj), expected)
    assert label.get_data_dtype() == np.uint8


def test_missing_h5py(tmp_path, monkeypatch, capsys):
    source = make_la_h5(tmp_path / "source", write=stand_in_h5py(monkeypatch))
    monkeypatch.setitem(sys.modules, "h5py", None)
    line = error_of(capsys, "la", source, tmp_path / "target", "--validation", "1")
    assert line.count("\n") == 1 and "h5py is not installed; wanted for this layout: pip install h5py" in line
    assert not (tmp_path / "target/dataset.json").exists()


def test_broken_h5_and_nrrd(tmp_path, monkeypatch, capsys):
    write = stand_in_h5py(monkeypatch)
    source = make_la_h5(tmp_path / "h5", write=lambda path, content: write(path, {"image": content["image"]}))
    assert "no readable dataset label" in error_of(capsys, "la", source, tmp_path / "a", "--validation", "1")
    source = make_la_nrrd(tmp_path / "nrrd")
    for file in source.rglob("laendo.nrrd"):
        file.write_text("no nrrd")
    line = error_of(capsys, "la", source, tmp_path / "b", "--validation", "1", "--test", "1")
    assert line.count("\n") == 1 and "laendo.nrrd: not a readable nrrd file" in line


def test_bad_input_gives_one_line_each(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "nowhere: no such folder" in error_of(capsys, "oasis", tmp_path / "nowhere", tmp_path / "t")
    for name in ("oasis", "la"):
        assert "found none of the data set" in error_of(capsys, name, tmp_path / "empty", tmp_path / "t")
    assert "dataset.json: no such file" in error_of(capsys, "hippocampus", tmp_path / "empty", tmp_path / "t")
    source = make_oasis(tmp_path / "source")
    assert "found 6 cases, 100 of them to hold out" in error_of(capsys, "oasis", source, tmp_path / "t")
    assert "wanted at least" in error_of(capsys, "oasis", source, tmp_path / "t", "--test", "-1")
    (tmp_path / "file").write_text("")
    small = ["--validation", "1", "--test", "1"]
    assert str(tmp_path / "file") in error_of(capsys, "oasis", source, tmp_path / "file/t", *small)
    for number in (2, 5):
        (source / f"OASIS_OAS1_{number:04d}_MR1/aligned_seg35.nii.gz").unlink()
    lines = error_of(capsys, "oasis", source, tmp_path / "t", *small).splitlines()
    assert len(lines) == 2 and all("aligned_seg35.nii.gz: no such file" in line for line in lines)
    assert not (tmp_path / "t").exists()


def test_lists_that_do_not_fit(tmp_path, monkeypatch, capsys):
    source = make_la_h5(tmp_path / "source", write=stand_in_h5py(monkeypatch))
    (source / "test.list").write_text("CASE3\nNOBODY\n")
    assert "test.list: case NOBODY has no folder" in error_of(capsys, "la", source, tmp_path / "t")
    (source / "train.list").unlink()
    assert "train.list: no such file" in error_of(capsys, "la", source, tmp_path / "t")
