"""A segmentation of slices that are tilted, unevenly spaced or in one file refers to the original frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from common.errors import InputError
from common.serving.dicom_segmentation import WriteDicomSegd, check_series
from common.volumes.read import read_volume
from support.data.dicom_series import edit_series, masks_by_position, move_slices, write_enhanced, write_series
from support.data.ellipsoid import GEOMETRIES

SIZE = (12, 10, 7)  # columns, rows, slices
VOXELS = np.random.default_rng(0).integers(0, 100, SIZE).astype(np.int16)


def affine_of(name: str) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = GEOMETRIES[name][0], (-30.5, 12.25, 140.0)
    return affine


def write(place: Path, output: Path) -> tuple[np.ndarray, pydicom.Dataset]:
    """Write a random label map on the grid that a series is read to; return both."""
    volume = read_volume(place)
    label = np.random.default_rng(1).integers(0, 3, volume.array.shape)
    meta = {"filename_or_obj": str(place), "saved_to": str(output / "a_seg.nii.gz")}
    pred = MetaTensor(torch.as_tensor(label[None]), affine=torch.as_tensor(volume.affine), meta=meta)
    check_series([{"case": "a", "image": str(place)}])
    WriteDicomSegd("pred", (0, 1, 2), {})({"pred": pred})
    return label, pydicom.dcmread(output / "a_seg.dcm")


HEIGHTS = np.cumsum([0.0, 3, 3, 3, 4, 4, 4])


@pytest.mark.parametrize("geometry", ["LPS", "SAL", "oblique"])
@pytest.mark.parametrize("kind", ["tilt", "uneven", "both"])
def test_single_slices(tmp_path, geometry, kind):
    affine = affine_of(geometry)
    folder = write_series(tmp_path / "series", VOXELS, affine, **({} if kind == "tilt" else {"SliceThickness": "3"}))
    lps = affine[:3] * [[-1], [-1], [1]]
    step = np.linalg.norm(lps[:, 2])
    tilt = np.outer(np.arange(7), 0.3 * lps[:, 1]) * (kind != "uneven")
    uneven = np.outer(HEIGHTS - step * np.arange(7), lps[:, 2] / step) * (kind != "tilt")
    tilt = tilt if kind == "tilt" else np.outer(HEIGHTS, 0.1 * lps[:, 1]) * (kind == "both")
    move_slices(folder, dict(enumerate(tilt + uneven)))
    label, found = write(folder, tmp_path)
    masks = masks_by_position(found)
    headers = {}
    edit_series(folder, lambda number, item: headers.update({number: item}))
    for group in found.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        (number,) = [number for number, item in headers.items() if item.SOPInstanceUID == source]
        place = [float(v) for v in headers[number].ImagePositionPatient]
        assert np.allclose([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient], place)
    volume = read_volume(folder)
    assert label.shape == (12, 10, 7 if kind == "tilt" else 8)
    for number, item in headers.items():
        place = tuple(float(v) for v in item.ImagePositionPatient)
        index = np.linalg.solve(volume.affine, [-place[0], -place[1], place[2], 1])[:3]
        assert np.allclose(index[:2], 0, atol=1e-3)
        for segment in (1, 2):
            wanted = label[:, :, round(index[2])] == segment
            assert np.array_equal(masks[segment, place], wanted), (number, segment)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4]])
def test_frames_of_one_file(tmp_path, order):
    affine = affine_of("oblique")
    path = write_enhanced(tmp_path / "series" / "a.dcm", VOXELS, affine, order)
    label, found = write(path.parent, tmp_path)
    masks = masks_by_position(found)
    assert len(masks) == 14
    for (segment, place), mask in masks.items():
        index = np.linalg.solve(affine, [-place[0], -place[1], place[2], 1])[:3]
        assert np.allclose(index, [0, 0, round(index[2])], atol=1e-3)
        assert np.array_equal(mask, label[:, :, round(index[2])] == segment)
    (source,) = {
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for group in found.PerFrameFunctionalGroupsSequence
    }
    assert source == pydicom.dcmread(path).SOPInstanceUID


def test_several_files_of_many_frames_are_refused_for_it_alone(tmp_path):
    affine, upper = affine_of("LPS"), affine_of("LPS")
    upper[:3, 3] += 7 * affine[:3, 2]
    folder = write_enhanced(tmp_path / "series" / "a.dcm", VOXELS, affine).parent
    write_enhanced(folder / "b.dcm", VOXELS[:, :, ::-1], upper)
    assert np.array_equal(read_volume(folder).array, np.concatenate([VOXELS, VOXELS[:, :, ::-1]], axis=2))
    with pytest.raises(InputError, match="has 2 files of many frames; for dicom_seg one such file is wanted"):
        check_series([{"case": "a", "image": str(folder)}])
