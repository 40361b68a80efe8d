from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from common.data.inputs import find_images, read_images
from common.errors import InputError
from common.grid.grid import Grid, Level
from common.volumes.bounded import read_exactly

VOXELS = np.random.default_rng(0).integers(0, 100, (6, 7, 8)).astype(np.int16)


def nifti(path: Path, voxels: np.ndarray = VOXELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return path


def dicom(folder: Path, series: str = "1.2.3", first: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(4):
        image = SimpleITK.GetImageFromArray(VOXELS[index])
        tags = {"0008|0060": "MR", "0020|000e": series, "0020|0013": str(index), "0008|0021": "20260101"}
        tags |= {"0020|0032": f"0\\0\\{2 * index}", "0020|0037": "1\\0\\0\\0\\1\\0", "0008|0018": f"{series}.{index}"}
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{first + index}.dcm"))
        writer.Execute(image)
    return folder


def test_one_file(tmp_path):
    path = nifti(tmp_path / "scan.1.nii.gz")
    assert read_images(path) == [{"case": "scan.1", "image": str(path)}]


def test_folder_of_all_formats_and_series(tmp_path):
    nifti(tmp_path / "a.nii.gz")
    for name in ("b.nrrd", "c.mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(tmp_path / name))
    dicom(tmp_path / "1.2.840")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.nii").write_text("")
    (tmp_path / "empty").mkdir()
    assert [case["case"] for case in read_images(tmp_path)] == ["1.2.840", "a", "b", "c"]


def test_dicom_folder_is_one_image_and_a_slash_at_its_end_is_nothing(tmp_path):
    folder = dicom(tmp_path / "series")
    assert read_images(f"{folder}/") == [{"case": "series", "image": str(folder)}]


def test_two_series_in_a_folder_are_refused(tmp_path):
    dicom(tmp_path / "series")
    dicom(tmp_path / "series", series="1.2.4", first=10)
    with pytest.raises(InputError, match="more than one DICOM series"):
        read_images(tmp_path / "series")


def test_data_set_gives_its_test_images(tmp_path):
    for name in ("train", "test"):
        nifti(tmp_path / "images" / f"{name}.nii.gz")
    content = {"labels": {"0": "background", "1": "organ"}, "training": [{"image": "images/train.nii.gz"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert [case["case"] for case in find_images(tmp_path)] == ["train"]
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "test": ["images/test.nii.gz"]}))
    assert [case["case"] for case in find_images(tmp_path)] == ["test"]


def bad_files(folder: Path) -> list[str]:
    """Write files that are no usable scan by their header or their length; return their names, sorted."""
    nifti(folder / "flat.nii.gz", VOXELS[0])
    (folder / "cut.nii.gz").write_bytes(nifti(folder / "cut.nii.gz").read_bytes()[:-20])
    (folder / "text.nrrd").write_text("no image")
    whole = nifti(folder / "short.nii.gz").read_bytes()
    (folder / "short.nii.gz").write_bytes(gzip.compress(gzip.decompress(whole)[:-20]))
    return ["cut.nii.gz", "flat.nii.gz", "short.nii.gz", "text.nrrd"]


def name_of(line: str) -> str:
    return Path(line.removeprefix("left out: ").split(":")[0]).name


def test_all_bad_files_are_named_at_once_where_no_other_is_there(tmp_path):
    names = bad_files(tmp_path)
    with pytest.raises(InputError) as error:
        read_images(tmp_path)
    assert [name_of(line) for line in error.value.problems] == names


def test_bad_files_among_good_ones_are_named_and_marked(tmp_path, capsys):
    names = bad_files(tmp_path)
    nifti(tmp_path / "good.nii.gz")
    cases = read_images(tmp_path)
    assert [name_of(line) for line in capsys.readouterr().err.splitlines()] == names
    marked = {Path(case["image"]).name: case.get("problems") for case in cases}
    assert sorted(marked) == sorted([*names, "good.nii.gz"]) and marked["good.nii.gz"] is None
    assert all(len(marked[name]) == 1 and name in marked[name][0] for name in names)


def test_a_scan_out_of_all_proportion_to_the_model_is_named(tmp_path):
    nifti(tmp_path / "a.nii.gz")  # 6 x 14 x 24 mm
    assert len(read_images(tmp_path, Grid((8, 8, 8), (0.02, 0.02, 0.02), (0, 1)))) == 1  # 252 million voxels
    with pytest.raises(
        InputError, match=r"a\.nii\.gz: spans 6 x 14 x 24 mm, at .* of 0.01 x .* 2016 million voxels; wanted 800"
    ):
        read_images(tmp_path, Grid((8, 8, 8), (0.01, 0.01, 0.01), (0, 1)))


def test_the_fine_level_decides_what_is_out_of_proportion(tmp_path):
    nifti(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"at the model's spacing of 0.01 x 0.01 x 0.01 mm 2016 million voxels"):
        read_images(tmp_path, Grid((8, 8, 8), (1, 1, 1), (0, 1), fine=Level((8, 8, 8), (0.01, 0.01, 0.01))))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "parts.nii.gz"])
def test_no_voxel_is_unpacked_where_the_length_of_a_file_tells(tmp_path, monkeypatch, name):
    """A gzip file of two parts ends with the length of the second alone, so that it is read."""
    path = nifti(tmp_path / name)
    if name.startswith("parts"):
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    read = []
    monkeypatch.setattr(
        "common.volumes.nifti.read_exactly", lambda *arguments: read.append(1) or read_exactly(*arguments)
    )
    assert "problems" not in read_images(path)[0]
    assert len(read) == name.startswith("parts")


def test_the_same_scan_twice_is_no_error(tmp_path):
    nifti(tmp_path / "a.nii.gz")
    nifti(tmp_path / "b.nii.gz")
    assert len(read_images(tmp_path)) == 2


def test_two_images_that_would_write_to_one_place(tmp_path):
    nifti(tmp_path / "a.nii.gz")
    nifti(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"overwrite those of a\.nii "):
        find_images(tmp_path)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.mkdir(), "an empty folder"),
        (lambda path: (path / "sub").mkdir(parents=True), "1 entries, none of them an image"),
        (lambda path: path.write_text("x"), "a file of another kind"),
        (lambda path: path.write_bytes(bytes(128) + b"DICM"), "one DICOM file"),
    ],
)
def test_nothing_to_predict_says_what_is_wanted(tmp_path, make, found):
    make(tmp_path / "input")
    with pytest.raises(InputError, match=rf"{found}.*; wanted a file"):
        find_images(tmp_path / "input")
