"""DICOM series of every kind: as ITK reads them where they are regular, at the right place, or refused in one line."""

from __future__ import annotations

import sys

import nibabel
import numpy as np
import pydicom
import pytest
from monai.data import ITKReader
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from common.volumes.dicom.series import find_series
from common.volumes.read import read_geometry, read_volume
from common.volumes.volume import Unreadable
from support.data.dicom_series import edit_series, move_slices, refused, write_enhanced, write_series
from support.data.ellipsoid import GEOMETRIES

SIZE = (12, 10, 7)  # columns, rows, slices
VOXELS = np.random.default_rng(0).integers(-1000, 1000, SIZE).astype(np.int16)
Z = np.array([0.0, 0.0, 1.0])


def affine_of(name: str = "LPS") -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = GEOMETRIES[name][0], (-30.5, 12.25, 140.0)
    return affine


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "series", VOXELS, affine_of(), SliceThickness="3")


@pytest.mark.parametrize("name", [name for name in GEOMETRIES if name != "gantry tilt"])
def test_a_regular_series_is_to_the_last_bit_what_itk_reads(tmp_path, name):
    folder = write_series(tmp_path / "series", VOXELS, affine_of(name), RescaleIntercept="-1024")
    reader = ITKReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    found = read_volume(folder)
    assert found.array.dtype == array.dtype and found.array.flags.f_contiguous
    assert np.array_equal(found.array, array) and np.array_equal(found.affine, meta["affine"])
    shape, affine = read_geometry(folder)
    assert shape == SIZE and np.array_equal(affine, found.affine)


def test_a_tilt_is_a_sheared_affine(tmp_path):
    folder = write_series(tmp_path / "upright", VOXELS, affine_of())
    move_slices(folder, {k: (0.0, 0.7 * k, 0.0) for k in range(SIZE[2])})
    found, upright = read_volume(folder), affine_of()
    upright[:3, 2] += (0.0, -0.7, 0.0)  # in RAS
    assert np.allclose(found.affine, upright, atol=1e-5) and np.array_equal(found.array, VOXELS)


def test_uneven_spacing_is_brought_to_a_grid(tmp_path):
    """The values are linear in space, so that linear interpolation has to meet them everywhere."""
    heights, affine, gradient = np.cumsum([0.0, 3, 3, 3, 4, 4, 4]), affine_of("oblique"), [0.3, -0.2, 0.5]
    step = np.linalg.norm(affine[:3, 2])
    voxels = world(affine, np.meshgrid(range(12), range(10), heights / step, indexing="ij")) @ gradient
    changes = {"SliceThickness": "3", "RescaleSlope": "0.01"}
    folder = write_series(tmp_path / "series", np.rint(100 * voxels), affine, **changes)
    normal = affine[:3, 2] / step * [-1, -1, 1]
    move_slices(folder, {k: (heights[k] - step * k) * normal for k in range(SIZE[2])})
    found = read_volume(folder)
    assert found.array.shape == (12, 10, 8) == read_geometry(folder)[0]
    assert np.abs(found.array - world(found.affine, np.indices(found.array.shape)) @ gradient).max() < 0.006
    assert find_series(folder).stack.nearest.tolist() == [0, 1, 2, 3, 4, 6, 7]  # 3 mm each: 13 and 17 mm are 4.3, 5.7


def world(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the points [..., 3] of voxels [3, ...], RAS mm."""
    return np.moveaxis(np.asarray(index), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def test_interpolation_is_worked_out_by_hand(tmp_path):
    voxels = np.zeros((4, 4, 4), np.int16) + np.array([0, 30, 60, 130], np.int16)
    folder = write_series(tmp_path / "series", voxels, np.diag([-1.0, -1, 3, 1]), SliceThickness="3")
    move_slices(folder, {3: Z})  # 0, 3, 6, 10 mm
    found = read_volume(folder)
    assert found.array.dtype == np.float32
    # four steps of 2.5 mm: at 2.5, 5 and 7.5 mm
    assert np.allclose(found.array[1, 2], [0, 25, 50, 60 + 70 * 1.5 / 4, 130])


def test_an_enhanced_file_is_read_by_its_frames_positions(tmp_path):
    affine = affine_of("oblique")
    plain = read_volume(write_series(tmp_path / "plain", VOXELS, affine))
    for number, order in enumerate([range(7), range(6, -1, -1), [3, 0, 6, 1, 5, 2, 4]]):
        path = write_enhanced(tmp_path / f"enhanced{number}" / "a.dcm", VOXELS, affine, list(order))
        for place in (path.parent, path):
            found = read_volume(place)
            assert np.array_equal(found.array, plain.array) and np.allclose(found.affine, plain.affine, atol=1e-6)
            assert read_geometry(place)[0] == SIZE


def test_an_enhanced_file_with_a_gap_is_refused(tmp_path):
    affine = affine_of()
    path = write_enhanced(tmp_path / "enhanced" / "a.dcm", VOXELS[:, :, :6], affine, [0, 1, 2, 3, 4, 5])
    item = pydicom.dcmread(path)
    for group in item.PerFrameFunctionalGroupsSequence[3:]:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = [*place.ImagePositionPatient[:2], float(place.ImagePositionPatient[2]) + 6]
    item.save_as(path)
    assert "frame 3 of a.dcm and frame 4 of a.dcm" in refused(path.parent)


def test_rescaling_of_each_slice_and_each_frame(tmp_path):
    """PET has another slope on each slice; ITK takes the type of the first slice, and of frames the first slope."""
    slopes = [1, 1, 0.5, 2, 0.25, 3, 1]
    folder = write_series(tmp_path / "series", VOXELS, affine_of())
    edit_series(folder, lambda k, item: setattr(item, "RescaleSlope", str(slopes[k])))
    assert np.array_equal(read_volume(folder).array, VOXELS * slopes)
    path = write_enhanced(tmp_path / "enhanced" / "a.dcm", VOXELS, affine_of(), [6, 5, 4, 3, 2, 1, 0])
    item = pydicom.dcmread(path)
    (transformation,) = item.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    del item.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    for number, group in enumerate(item.PerFrameFunctionalGroupsSequence):
        own = pydicom.Dataset()
        own.update(transformation)
        own.RescaleSlope = str(slopes[6 - number])
        group.PixelValueTransformationSequence = [own]
    item.save_as(path)
    assert np.array_equal(read_volume(path.parent).array, VOXELS * slopes)


def test_compressed_pixels_and_files_without_a_preamble(series):
    wanted = read_volume(series).array

    def compress(number: int, item: pydicom.Dataset) -> None:
        item.compress(RLELossless, generate_instance_uid=False)

    assert np.array_equal(read_volume(edit_series(series, compress)).array, wanted)


def test_old_files_without_a_preamble(tmp_path, series):
    wanted = read_volume(series).array
    for path in series.iterdir():
        item = pydicom.dcmread(path)
        item.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        item.save_as(path)
        content = path.read_bytes()
        start = content.index(b"\x08\x00\x05\x00", 132)
        path.write_bytes(content[start:])
    assert np.array_equal(read_volume(series).array, wanted)


def test_missing_slices(series):
    lost = next(path for path in series.iterdir() if pydicom.dcmread(path).SOPInstanceUID.endswith(".4"))
    lost.unlink()
    assert "a gap of 7 mm between" in refused(series) and "1 missing" in refused(series)


def test_one_slice_is_no_volume(tmp_path):
    folder = write_series(tmp_path / "series", VOXELS[:, :, :1], affine_of())
    assert "shape (12, 10, 1); wanted 3 dimensions" in refused(folder)


def test_pixels_cut_off(series):
    path = series / "003.dcm"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(Unreadable, match=r"the pixels of 003\.dcm can't be read.*; wanted whole"):
        read_volume(series)


def test_without_pydicom(series, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "the package pydicom is not installed" in refused(series)
    nibabel.save(nibabel.Nifti1Image(VOXELS, np.eye(4)), series / "a.nii")
    assert read_volume(series / "a.nii").array.shape == SIZE
