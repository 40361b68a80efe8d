"""Label maps as DICOM Segmentations in an archive, and what those say of each slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.uid import generate_uid

from common.serving.dicom_segmentation import make_segmentation, read_series


def draw(series: Path, label: nibabel.Nifti1Image, names: Mapping[int, str], path: Path) -> Path:
    """Write the label of what a series folder was written from as a person's DICOM-SEG, its segments in the order of
    their names, which is not that of their values."""
    source, values = read_series(series), np.asarray(label.dataobj)
    if source.affine[:3, 2] @ label.affine[:3, 2] < 0:
        values = values[:, :, ::-1]
    order = sorted(names, key=names.__getitem__)
    channels = {str(number): name for number, name in enumerate(["background", *(names[value] for value in order)])}
    metadata = {"name": "drawn", "network_data_format": {"outputs": {"pred": {"channel_def": channels}}}}
    file = make_segmentation(source, values, [0, *order], metadata)
    file.SeriesInstanceUID = generate_uid()
    for segment in file.SegmentSequence:  # what only a model says of itself
        del segment.SegmentationAlgorithmIdentificationSequence
        segment.SegmentAlgorithmType = "MANUAL"
    file.save_as(path)
    return path


def segments_by_slice(file: pydicom.Dataset) -> dict[str, np.ndarray]:
    """Return the segments' numbers [rows, columns] of each slice that a segmentation shows, by its SOPInstanceUID."""
    result: dict[str, np.ndarray] = {}
    for mask, groups in zip(file.pixel_array, file.PerFrameFunctionalGroupsSequence, strict=True):
        source = str(groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        result[source] = np.where(mask > 0, number, result.get(source, 0))
    return result


def dice(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """Return the Dice of what is above 0 on all slices; a slice that is not there shows nothing."""
    assert set(found) <= set(wanted)
    both = sum(int(((found[name] > 0) & (mask > 0)).sum()) for name, mask in wanted.items() if name in found)
    return 2 * both / sum(int((mask > 0).sum()) for slices in (found, wanted) for mask in slices.values())
