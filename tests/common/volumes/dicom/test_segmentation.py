"""DICOM Segmentations, written by highdicom, on the grid of a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from common.serving.dicom_segmentation import make_segmentation, read_series
from common.volumes.dicom.segmentation import find_segmentations, read_segments
from common.volumes.read import read_geometry
from common.volumes.volume import Unreadable
from support.data.dicom_series import write_series

NAMES = {"0": "background", "1": "liver", "2": "cyst"}
METADATA = {"network_data_format": {"outputs": {"pred": {"channel_def": NAMES}}}}
SHAPE = (9, 7, 5)
TURN = Rotation.from_euler("xy", [10, -15], degrees=True).as_matrix()
AFFINE = np.vstack([np.c_[TURN @ np.diag([-1.5, -2.0, 3.0]), [3, 7, -4]], [0, 0, 0, 1]])


@pytest.fixture
def segmented(tmp_path) -> tuple[Path, Path, np.ndarray]:
    """A series, a segmentation of it, and the numbers of its segments on the series' grid."""
    series = write_series(tmp_path / "series", np.zeros(SHAPE, int), AFFINE, SliceThickness="3")
    source = read_series(series)
    numbers = np.random.default_rng(0).choice(3, source.size)
    numbers[:, :, 3] = 0
    make_segmentation(source, numbers, (0, 1, 2), METADATA).save_as(tmp_path / "seg.dcm")
    return series, tmp_path / "seg.dcm", numbers


def edit(path: Path, change) -> Path:
    file = pydicom.dcmread(path)
    change(file)
    file.save_as(path)
    return path


def test_what_it_says_of_itself(segmented):
    series, path, _ = segmented
    (found,) = find_segmentations([*series.iterdir(), path])
    source = pydicom.dcmread(next(series.iterdir()))
    assert found.source == source.SeriesInstanceUID != found.series
    assert found.names == {1: "liver", 2: "cyst"} and found.is_predicted

    def corrected(file: pydicom.Dataset) -> None:
        for segment in file.SegmentSequence:
            del segment.SegmentationAlgorithmIdentificationSequence

    assert not find_segmentations([edit(path, corrected)])[0].is_predicted


def test_the_newest_comes_last(segmented, tmp_path):
    _, path, _ = segmented
    dates = [("20260102", "120000"), ("20260103", "090000"), ("20260102", "115959.5")]
    for number, (date, time) in enumerate(dates):
        file = pydicom.dcmread(path)
        file.ContentDate, file.ContentTime = date, time
        file.save_as(tmp_path / f"{number}.dcm")
    found = find_segmentations(tmp_path / f"{number}.dcm" for number in range(3))
    assert [one.path.stem for one in found] == ["2", "0", "1"]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (1, -1, -1)])
def test_voxels_are_found_by_their_place_whatever_the_axes_of_the_scan(segmented, axes, flips):
    series, path, numbers = segmented
    shape, affine = read_geometry(series)
    turn = np.zeros((4, 4))  # from the voxels as another program's NIfTI may hold them to those of the series
    turn[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        turn[old, new], turn[old, 3] = flip, 0 if flip > 0 else shape[old] - 1
    wanted = numbers.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
    (found,) = find_segmentations([path])
    assert np.array_equal(read_segments(found, (wanted.shape, affine @ turn)), wanted)


def test_what_is_no_label_map_of_the_scan_is_refused(segmented):
    series, path, _ = segmented
    shape, affine = read_geometry(series)
    (found,) = find_segmentations([path])
    for moved, words in ((0.4, "0.4 voxels beside those of the scan"), (40, "outside the scan")):
        other = affine.copy()
        other[:3, 3] -= moved * affine[:3, 2]
        with pytest.raises(Unreadable, match=words):
            read_segments(found, (shape, other))

    def overlap(file: pydicom.Dataset) -> None:
        file.PixelData = b"\xff" * len(file.PixelData)

    (found,) = find_segmentations([edit(path, overlap)])
    with pytest.raises(Unreadable, match="liver and cyst overlap"):
        read_segments(found, (shape, affine))
    (found,) = find_segmentations([edit(path, lambda file: setattr(file, "SegmentationType", "FRACTIONAL"))])
    with pytest.raises(Unreadable, match="of the type FRACTIONAL; wanted BINARY"):
        read_segments(found, (shape, affine))


def test_a_file_cut_off_is_refused_and_others_are_none(segmented, tmp_path):
    series, path, _ = segmented
    (tmp_path / "notes.dcm").write_text("no DICOM")
    assert find_segmentations([*series.iterdir(), tmp_path / "notes.dcm"]) == []
    path.write_bytes(path.read_bytes()[:-20])
    (found,) = find_segmentations([path])
    with pytest.raises(Unreadable, match="can't be read"):
        read_segments(found, read_geometry(series))
