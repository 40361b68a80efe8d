"""Raw data sets of nnU-Net, brought to ours: channels, scans without a label, an ignore label, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.data.checks import check_cases
from common.data.datalist import Datalist, read_datalist
from common.errors import InputError
from common.volumes.read import read_channels
from tools.datasets import main
from tools.layouts.nnunet import read_nnunet

LABELS = {"background": 0, "liver": 1, "spleen": 2}


def save(path: Path, seed: int, highest: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    array = random.random((4, 5, 6), np.float32)
    if highest is not None:
        array = random.integers(0, highest + 1, (4, 5, 6)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), path)


def make_raw(folder: Path, channels: int = 1, ending: str = ".nii.gz", **content: object) -> Path:
    """Write a and b with masks, c without one in imagesTr, t (with a mask) and u in imagesTs, x in imagesUn."""
    places = {"Tr": "abc", "Ts": "tu", "Un": "x"}
    for part, names in places.items():
        for seed, name in enumerate(names):
            for number in range(channels):
                save(folder / f"images{part}/{name}_{number:04d}{ending}", seed + 10 * number + len(names))
    for seed, place in enumerate(("labelsTr/a", "labelsTr/b", "labelsTs/t")):
        save(folder / f"{place}{ending}", seed, highest=2)
    names = ["CT"] if channels == 1 else [f"T{number + 1}" for number in range(channels)]
    about = {"channel_names": dict(enumerate(names)), "labels": LABELS, "numTraining": 2, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps({**about, **content}))
    return folder


def ids(datalist: Datalist) -> dict[str, str]:
    groups = ("training", "validation", "test", "unlabeled")
    return {name: "".join(sorted(case["case"] for case in getattr(datalist, name))) for name in groups}


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_every_scan_has_its_place_and_the_files_are_linked(tmp_path, capsys, ending):
    source = make_raw(tmp_path / "source", ending=ending, name="abdomen", licence="CC0")
    assert main(["nnunet", str(source), str(tmp_path / "target")]) == 0
    assert "2 training, 2 test, 2 unlabeled" in capsys.readouterr().out
    datalist = read_datalist(tmp_path / "target")
    assert ids(datalist) == {"training": "ab", "validation": "", "test": "tu", "unlabeled": "cx"}
    assert datalist.labels == {0: "background", 1: "liver", 2: "spleen"} and datalist.name == "abdomen"
    assert datalist.other["modality"] == {"0": "CT"} and datalist.other["licence"] == "CC0"
    assert ["label" in case for case in datalist.test] == [True, False]
    assert check_cases(datalist.training + datalist.unlabeled, datalist.labels) == []
    assert os.path.samefile(datalist.training[0]["image"], source / f"imagesTr/a_0000{ending}")
    assert os.path.samefile(datalist.training[0]["label"], source / f"labelsTr/a{ending}")


def test_all_channels_come_along(tmp_path):
    source = make_raw(tmp_path / "source", channels=2)
    assert main(["nnunet", str(source), str(tmp_path / "target"), "--validation", "1"]) == 0
    datalist = read_datalist(tmp_path / "target")
    assert ids(datalist)["unlabeled"] == "cx" and len(datalist.training) == len(datalist.validation) == 1
    assert datalist.other["modality"] == {"0": "T1", "1": "T2"}
    volumes = read_channels(datalist.unlabeled[1]["image"], 2)
    wanted = [nibabel.load(source / f"imagesUn/x_000{number}.nii.gz").get_fdata() for number in range(2)]
    assert all(np.allclose(volume.array, array) for volume, array in zip(volumes, wanted, strict=True))


def test_an_ignore_label_that_no_mask_uses_is_no_obstacle(tmp_path):
    found = read_nnunet(make_raw(tmp_path, labels={**LABELS, "ignore": 3}))
    assert found.labels == {0: "background", 1: "liver", 2: "spleen"} and len(found.scans) == 2


def test_masks_with_ignored_voxels_are_refused_or_closed(tmp_path, capsys):
    source = make_raw(tmp_path / "source", labels={**LABELS, "ignore": 3})
    for place in ("labelsTr/b", "labelsTs/t"):
        file = source / f"{place}.nii.gz"
        array = nibabel.load(file).get_fdata()
        array[0, 0, :5] = 3
        file.unlink()
        nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), np.diag([1.0, 1.0, 2.0, 1.0])), file)
    assert main(["nnunet", str(source), str(tmp_path / "target")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "labelsTr/b.nii.gz: 5 voxels have the ignore label 3; wanted none" in line
    assert main(["nnunet", str(source), str(tmp_path / "target"), "--ignored", "unlabeled"]) == 0
    datalist = read_datalist(tmp_path / "target")
    assert ids(datalist) == {"training": "a", "validation": "", "test": "tu", "unlabeled": "bcx"}
    assert not any("label" in case for case in datalist.test + datalist.unlabeled)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"labels": {**LABELS, "ignore": 2}}, "labels has ignore 2; wanted the highest value"),
        ({"labels": {"background": 0, "all": [1, 2], "spleen": 2}}, "labels has regions, which are several values"),
        ({"channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".tif"}, "file_ending is '.tif'; wanted one of"),
        ({"file_ending": ".mhd"}, "found none in"),
        ({"labels": None}, "labels missing or empty"),
    ],
)
def test_what_no_datalist_holds_is_one_line(tmp_path, capsys, content, expected):
    source = make_raw(tmp_path / "source", **content)
    assert main(["nnunet", str(source), str(tmp_path / "target")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line and not (tmp_path / "target").exists()


def test_headers_without_voxels_are_refused(tmp_path):
    for name in ("imagesTr/a_0000.mhd", "labelsTr/a.mhd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    content = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 1, "file_ending": ".mhd"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"a_0000.mhd: may have its voxels in another file; wanted .nii.gz, .nii, .nrrd"
    ):
        read_nnunet(tmp_path)
