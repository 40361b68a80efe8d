"""What a series' headers have to say, and what is passed over or refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import BasicTextSRStorage, MediaStorageDirectoryStorage

from common.volumes.read import read_volume
from support.data.dicom_series import edit_series, refused, set_all, write_series

SIZE = (12, 10, 7)  # columns, rows, slices
VOXELS = np.random.default_rng(0).integers(-1000, 1000, SIZE).astype(np.int16)
AFFINE = np.diag([-2.5, -3.0, 3.5, 1.0])


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "series", VOXELS, AFFINE)


def test_what_is_no_image_is_passed_over(series):
    (series / "notes.txt").write_text("no image")
    (series / ".hidden.dcm").write_text("no image")
    (series / "folder").mkdir()
    item = pydicom.dcmread(series / "000.dcm")
    del item.Rows, item.Columns, item.PixelData, item.SeriesInstanceUID
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    item.save_as(series / "DICOMDIR")
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    item.SeriesInstanceUID = "1.2.4"
    item.save_as(series / "report.dcm")
    assert read_volume(series).array.shape == SIZE


def set_some(numbers, **values):
    def change(number: int, item: pydicom.Dataset) -> None:
        if number in numbers:
            set_all(**values)(number, item)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_all(ImagePositionPatient=None), "has no ImagePositionPatient"),
        (set_some([3], ImagePositionPatient=None), "has no ImagePositionPatient"),
        (set_some([3], ImagePositionPatient=[]), "has no ImagePositionPatient"),
        (set_all(ImageOrientationPatient=None), "has no ImageOrientationPatient"),
        (set_all(PixelSpacing=None), "has no PixelSpacing"),
        (set_all(PixelSpacing=["0", "1"]), "wanted more than 0 mm"),
        (set_some([0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "1 of 7 slices of another orientation"),
        (set_some([0, 1], ImageOrientationPatient=[1, 0, 0, 0, 0.6, 0.8]), "2 of 7 slices of another orientation"),
        (set_all(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "two directions at right angles"),
        (set_some([6], PixelSpacing=["1", "1"]), "1 of 7 slices of another pixel spacing"),
        (set_some([6], SeriesInstanceUID="1.2.9"), "more than one DICOM series (2: CT of 6 files, CT of 1 files)"),
        (set_some([6], FrameOfReferenceUID="1.2.9"), "more than one FrameOfReferenceUID"),
        (set_all(SamplesPerPixel=3), "3 colours a pixel"),
        (set_all(NumberOfFrames=2), "holds 2 frames"),
    ],
)
def test_refused_by_its_headers(series, change, words):
    assert words in refused(edit_series(series, change))


def test_slices_of_another_size(tmp_path, series):
    other = write_series(tmp_path / "other", VOXELS[:8], AFFINE)
    (series / "003.dcm").write_bytes((other / "003.dcm").read_bytes())
    assert "1 of 7 slices of another size than the others (003.dcm: 8 x 10 pixels, not 12 x 10)" in refused(series)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("AcquisitionNumber", (1, 2), "AcquisitionNumber 1, 2"),
        ("TemporalPositionIdentifier", (1, 2), "TemporalPositionIdentifier 1, 2"),
        ("EchoTime", ("30", "80"), "EchoTime 30, 80"),
        ("ImageType", (["ORIGINAL", "M"], ["ORIGINAL", "P"]), "ImageType ORIGINAL\\M, ORIGINAL\\P"),
    ],
)
def test_two_phases_under_one_uid(tmp_path, series, name, values, said):
    edit_series(series, set_all(**{name: values[0]}))
    other = edit_series(write_series(tmp_path / "other", VOXELS, AFFINE), set_all(**{name: values[1]}))
    for path in other.iterdir():
        path.rename(series / f"z{path.name}")
    line = refused(series)
    assert "7 of 14 slices at the same position" in line and said in line and "and z" in line


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_file_that_says_it_is_dicom_and_is_none(series, content):
    (series / "006.dcm").write_bytes(content)
    assert refused(series) == "006.dcm is no DICOM file; wanted DICOM, as its name says"


@pytest.mark.parametrize(
    ("size", "words"), [(0, "is no DICOM file"), (132, "as if cut off"), (176, "as if cut off"), (400, "as if cut off")]
)
def test_the_last_slice_is_not_lost_where_its_file_is_cut_off(series, size, words):
    last = next(path for path in series.iterdir() if pydicom.dcmread(path).SOPInstanceUID.endswith(".7"))
    last.write_bytes(last.read_bytes()[:size])
    assert last.name in refused(series) and words in refused(series)
