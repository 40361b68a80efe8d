"""DICOM in, DICOM Segmentation out; read back by pydicom and, where in space, by SimpleITK."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from monai.transforms import LoadImage
from pydicom.uid import SegmentationStorage

from common.errors import InputError, find_input_error
from common.serving.dicom_segmentation import (
    WriteDicomSegd,
    check_series,
    described,
    label_names,
    make_segmentation,
    read_series,
)
from support.bundle.path import BUNDLES, import_bundle
from support.data.dicom_series import itk_series, read_back, write_series
from support.data.ellipsoid import GEOMETRIES, scan

METADATA = {"name": "Bundle ü", "version": "1.2.3", "task": "3D segmentation", "authors": "us"}
METADATA["network_data_format"] = {
    "outputs": {"pred": {"channel_def": {"0": "background", "1": "liver", "2": "hígado"}}}
}
SIZE = (12, 10, 7)  # columns, rows, slices


def labels(seed: int, values: tuple[int, ...]) -> np.ndarray:
    label = np.random.default_rng(seed).choice(values, SIZE)
    label[:, :, 2] = values[0]  # a slice without any
    label[:, :, 4][label[:, :, 4] == values[1]] = values[0]  # and one without the first
    return label


def affine_of(name: str) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = GEOMETRIES[name][0], (-30.5, 12.25, 140.0)
    return affine


def write(folder: Path, label: np.ndarray, affine: np.ndarray, values: tuple[int, ...], output: Path) -> Path:
    """Run the transform on a label map that lies on a grid as it was loaded."""
    meta = {"filename_or_obj": str(folder), "saved_to": str(output / "a.b_seg.nii.gz")}
    pred = MetaTensor(torch.as_tensor(label[None].astype(np.int32)), affine=torch.as_tensor(affine), meta=meta)
    WriteDicomSegd("pred", values, METADATA)({"pred": pred})
    return output / "a.b_seg.dcm"


@pytest.mark.parametrize("geometry", ["LPS", "LAS", "SAL", "oblique", "thick slices"])
def test_voxels_and_space_are_the_same(tmp_path, geometry):
    values, affine = (0, 1, 2), affine_of(geometry)
    label = labels(1, values)
    series = write_series(tmp_path / "series", label * 100, affine)
    loaded = LoadImage(image_only=True, reader="ITKReader")(series)  # the grid as inference has it
    grid = loaded.affine.numpy()
    on_grid = np.rint(loaded.numpy() / 100).astype(int)
    found, masks = read_back(write(series, on_grid, grid, values, tmp_path), series)
    source = SimpleITK.GetArrayFromImage(itk_series(series)).transpose(2, 1, 0)
    for number in (1, 2):
        assert np.array_equal(masks[number], source == 100 * number)
    assert found.NumberOfFrames == sum((label == value).any((0, 1)).sum() for value in (1, 2))


def test_what_it_refers_to_and_what_it_says(tmp_path):
    series = write_series(tmp_path / "series", labels(0, (0, 1, 2)) * 100, affine_of("LPS"))
    loaded = LoadImage(image_only=True)(series)
    path = write(series, np.rint(loaded.numpy() / 100), loaded.affine.numpy(), (0, 1, 2), tmp_path)
    found, source = pydicom.dcmread(path), pydicom.dcmread(next(series.iterdir()))
    assert found.SOPClassUID == SegmentationStorage and found.Modality == "SEG"
    assert found.SegmentationType == "BINARY"
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert found[name].value == source[name].value, name
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    reference = found.ReferencedSeriesSequence[0]
    assert reference.SeriesInstanceUID == source.SeriesInstanceUID
    wanted = {str(pydicom.dcmread(file).SOPInstanceUID) for file in series.iterdir()}
    assert {str(item.ReferencedSOPInstanceUID) for item in reference.ReferencedInstanceSequence} == wanted
    assert [item.SegmentLabel for item in found.SegmentSequence] == ["liver", "hígado"]
    for item in found.SegmentSequence:
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Bundle ü", "1.2.3")
        assert item.SegmentAlgorithmType == "AUTOMATIC"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.b_seg.dcm", "series"]  # no temporary file stays


def test_any_label_values_and_a_slice_without_headers_that_may_lack(tmp_path):
    values = (0, 7, 300, 5)
    series = write_series(tmp_path / "series", labels(3, values), affine_of("RAS"), PatientName=None, PatientID=None)
    loaded = LoadImage(image_only=True)(series)
    path = write(series, np.rint(loaded.numpy()), loaded.affine.numpy(), values, tmp_path)
    found, masks = read_back(path, series)
    source = SimpleITK.GetArrayFromImage(itk_series(series)).transpose(2, 1, 0)
    assert [item.SegmentLabel for item in found.SegmentSequence] == ["label 7", "label 300", "label 5"]
    assert all(np.array_equal(masks[number], source == values[number]) for number in (1, 2, 3))


def test_one_label_and_none_of_it(tmp_path):
    series = write_series(tmp_path / "series", np.zeros(SIZE, int), affine_of("LPS"))
    loaded = LoadImage(image_only=True)(series)
    found, masks = read_back(write(series, loaded.numpy(), loaded.affine.numpy(), (0, 1), tmp_path), series)
    assert len(found.SegmentSequence) == 1 and not masks[1].any()


def test_a_segment_says_what_it_is_worth_and_one_without_a_review_says_nothing(tmp_path):
    series = write_series(tmp_path / "series", labels(0, (0, 1, 2)) * 100, affine_of("LPS"))
    row = {"label": 2, "predicted_dice": 0.456, "low": 0.2, "high": 0.7, "why": ["label 2 is unsure", "a\\b"]}
    label = np.rint(LoadImage(image_only=True)(series).numpy() / 100)
    found = make_segmentation(read_series(series), label, (0, 1, 2), METADATA, [row])
    assert "SegmentDescription" not in found.SegmentSequence[0]
    text = found.SegmentSequence[1].SegmentDescription
    assert text == "Dice of 0.46 expected (0.20 to 0.70), not measured; label 2 is unsure; a b"
    assert len(described({**row, "why": ["x" * 2000]})) == 1024


def test_names_come_from_the_metadata_only_where_they_fit():
    assert label_names([0, 4, 9], METADATA) == ["liver", "hígado"]
    assert label_names([0, 4], METADATA) == ["label 4"]
    assert label_names([0, 1, 2], {}) == ["label 1", "label 2"]


def test_another_grid_is_refused(tmp_path):
    label = labels(0, (0, 1))
    series = write_series(tmp_path / "series", label, affine_of("LPS"))
    loaded = LoadImage(image_only=True)(series)
    shifted = loaded.affine.numpy().copy()
    shifted[0, 3] += 1
    for voxels, affine in ((loaded.numpy()[:, :, 1:], loaded.affine.numpy()), (loaded.numpy(), shifted)):
        with pytest.raises(InputError, match="doesn't lie where"):
            write(series, voxels, affine, (0, 1), tmp_path)
    assert not (tmp_path / "a.b_seg.dcm").exists()


def test_bad_series_are_named_all_at_once_and_other_inputs_in_one_line(tmp_path, capsys):
    label, affine = labels(0, (0, 1)), affine_of("LPS")
    folders = {
        "good": write_series(tmp_path / "good", label, affine),
        "lost": write_series(tmp_path / "lost", label, affine, FrameOfReferenceUID=None),
        "frames": write_series(tmp_path / "frames", label, affine, NumberOfFrames=2),
        "double": write_series(tmp_path / "double", label, affine, ImagePositionPatient=[0, 0, 0]),
        "empty": tmp_path / "empty",
    }
    folders["empty"].mkdir()
    (folders["good"] / "notes.txt").write_text("no image")
    assert len(read_series(folders["good"]).headers) == SIZE[2]
    words = ("FrameOfReferenceUID", "2 frames", "same position", "no DICOM slices")
    cases = [{"case": name, "image": str(path)} for name, path in folders.items()]
    check_series(cases)
    assert "problems" not in cases[0]
    said = capsys.readouterr().err.splitlines()
    for case, line, word in zip(cases[1:], said, words, strict=True):
        assert line.startswith("left out: ") and word in line and word in case["problems"][0]
    with pytest.raises(InputError) as caught:  # no good one
        check_series([{"case": name, "image": str(path)} for name, path in folders.items() if name != "good"])
    assert len(caught.value.problems) == len(words)
    check_series([{"case": "good", "image": str(folders["good"])}, {"case": "b", "image": "b.nii.gz"}])
    assert capsys.readouterr().out == "dicom_seg: no DICOM series, so NIfTI alone is written for: b\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a bundle's inference.json on a network whose weights are left as they were made."""

    def workflow(bundle: str, dataset_dir: Path, small: dict, **overrides) -> Path:
        import_bundle(bundle)
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setattr(sys, "path", list(sys.path))
        folder, model = BUNDLES / bundle, tmp_path / "model.pt"
        grid = {"spatial_size": [16, 16, 16], "pixdim": [6.0, 6.0, 6.0], "label_values": [0, 1, 2, 3, 4, 5]}
        settings = {**small, "bundle_root": str(folder), "dataset_dir": str(dataset_dir), "device": "cpu"}
        settings |= {"output_dir": str(tmp_path / "out"), "ckpt_path": str(model), **overrides}

        def flow() -> ConfigWorkflow:
            return ConfigWorkflow(
                str(folder / "configs" / "inference.json"), workflow_type="inference", logging_file=False, **settings
            )

        made = flow()
        made.parser["grid::default"] = grid
        torch.manual_seed(0)
        torch.save(made.parser.get_parsed_content("network_def").state_dict(), model)
        made = flow()
        made.initialize()
        made.run()
        return tmp_path / "out"

    return workflow


UNETS = ("semisam_plus", "weakmedsam", "ada_sam", "sam_adapters")
SMALL = {"rrl_medsam": {"channels": [4, 4, 8, 8]}}
SMALL |= {name: {"channels": [4, 8], "strides": [2]} for name in UNETS}


@pytest.mark.parametrize("bundle", SMALL)
def test_inference_writes_it_beside_the_nifti(bundle, run, tmp_path, capsys):
    linear, _ = GEOMETRIES["oblique"]
    voxels, affine = scan(linear, (21, 19, 9))
    scans = tmp_path / "scans"
    write_series(scans / "1.2.840", voxels, affine)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), scans / "plain.nii.gz")
    output = run(bundle, scans, SMALL[bundle], dicom_seg=True)
    names = sorted(str(path.relative_to(output)) for path in output.rglob("*.*") if path.is_file())
    files = ["1.2.840/1.2.840_seg.dcm", "1.2.840/1.2.840_seg.nii.gz", "plain/plain_seg.nii.gz"]
    assert names == [*files, "review.csv", "review.html"]
    found, masks = read_back(output / "1.2.840" / "1.2.840_seg.dcm", scans / "1.2.840")
    metadata = json.loads((BUNDLES / bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert [item.SegmentLabel for item in found.SegmentSequence] == list(channels.values())[1:]
    assert all(item.SegmentDescription.startswith("Dice of 0.") for item in found.SegmentSequence)
    algorithm = found.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (metadata["name"], metadata["version"])
    # the NIfTI as SimpleITK sees it, at the points of the series
    nifti = SimpleITK.ReadImage(str(output / "1.2.840" / "1.2.840_seg.nii.gz"))
    on_series = SimpleITK.Resample(
        nifti, itk_series(scans / "1.2.840"), SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor
    )
    wanted = SimpleITK.GetArrayFromImage(on_series).transpose(2, 1, 0)
    assert len(np.unique(wanted)) > 1
    assert all(np.array_equal(mask, wanted == number) for number, mask in masks.items())
    assert capsys.readouterr().out.count("NIfTI alone is written for: plain") == 1


def test_off_by_default_and_a_bad_series_ends_it_before_a_prediction(run, tmp_path):
    voxels, affine = scan(GEOMETRIES["LPS"][0], (21, 19, 9))
    series = write_series(tmp_path / "series", voxels, affine, FrameOfReferenceUID=None)
    with pytest.raises(Exception) as caught:
        run("weakmedsam", series, SMALL["weakmedsam"], dicom_seg=True)
    assert "FrameOfReferenceUID" in str(find_input_error(caught.value))
    assert not list((tmp_path / "out").rglob("*.*"))
    output = run("weakmedsam", series, SMALL["weakmedsam"])
    found = sorted(path.name for path in output.rglob("*.*") if path.is_file())
    assert found == ["review.csv", "review.html", "series_seg.nii.gz"]
