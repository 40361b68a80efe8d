"""Labels that MONAI Label has from an archive (DICOMweb), by the names that their DICOM Segmentations give them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files.atomic_write import write_atomic
from ..volumes.dicom.headers import find_frames
from ..volumes.dicom.segmentation import Segmentation, counts_upwards, find_segmentations, read_segments
from ..volumes.read import read_geometry
from ..volumes.volume import Unreadable
from .datalist import Case

FOLDER = "by_name"  # beside labels/final; MONAI Label looks into that one


def take_archived_label(case: Case, notes: Mapping[str, Any], labels: Mapping[int, str], problems: list[str]) -> Case:
    """Return a case whose label is the newest DICOM Segmentation that MONAI Label fetched for its scan.

    MONAI Label numbers what it fetches by the order of the segments, whatever they are called, and of several
    segmentations of a scan it takes the one that the archive names last. Here segments are what they are called; what
    a model predicted and nobody corrected is no label, and what names none of the labels is of another task, which is
    said. The result is written beside the fetched ones.

    Args:
        case: `case` is the SeriesInstanceUID of the scan, `label` lies in the folder of the fetched ones.
        notes: of the label, by MONAI Label: with `label_info`, a viewer submitted the file itself.
        labels: name of each value, background first.
        problems: gets a line where the newest segmentation can't be used.

    Returns:
        The case: as it was where no segmentation was fetched for it or the newest was submitted as a file; without a
        label where all are predictions or of other tasks.
    """
    fetched = Path(case["label"]).parent
    found = [one for one in find_segmentations(sorted(fetched.glob("*/*"))) if one.source == case["case"]]
    people = [one for one in found if not one.is_predicted]
    wanted = {name.lower() for value, name in labels.items() if value}
    submitted = notes.get("SeriesInstanceUID") if "label_info" in notes else None
    ours = [one for one in people if one.series == submitted or wanted & {name.lower() for name in one.names.values()}]
    for one in people:
        if one not in ours:
            said = ", ".join(f"'{name}'" for name in one.names.values())
            print(f"{case['case']}: {one.title} has {said}, no label of this bundle: passed over", flush=True)
    if not found or (ours and ours[-1].series == submitted):
        return case
    if not ours:
        return {key: value for key, value in case.items() if key != "label"}
    try:
        return {**case, "label": str(_write(case, ours[-1], labels, fetched.parent / FOLDER))}
    except (Unreadable, OSError) as error:
        problems.append(f"{case['case']}: {error}")
        return case


def _write(case: Case, segmentation: Segmentation, labels: Mapping[int, str], folder: Path) -> Path:
    import nibabel

    shape, affine = read_geometry(case["image"])
    scan = Path(case["image"]).parent / case["case"]  # MONAI Label keeps the series beside the NIfTI that it made of it
    if segmentation.is_of_dcmjs and scan.is_dir() and counts_upwards(find_frames(sorted(scan.iterdir()))):
        raise Unreadable(
            f"{segmentation.title} was written by OHIF, which mirrors the slices of a scan whose InstanceNumber grows "
            "along their normal, as it does here; wanted it corrected in 3D Slicer"
        )
    segments = read_segments(segmentation, (shape, affine))
    values = {name.lower(): value for value, name in labels.items() if value}
    label = np.zeros(shape, np.uint8 if max(labels) < 256 else np.int32)
    for number in np.unique(segments[segments > 0]):
        name = segmentation.names[int(number)]
        if name.lower() not in values:
            raise Unreadable(f"{segmentation.title} has a segment '{name}'; wanted one of {', '.join(values)}")
        if values[name.lower()] in label:
            raise Unreadable(f"{segmentation.title} has two segments '{name}'; wanted one of each name")
        label[segments == number] = values[name.lower()]
    content = gzip.compress(nibabel.Nifti1Image(label, affine).to_bytes(), compresslevel=1, mtime=0)
    return write_atomic(folder / f"{case['case']}.nii.gz", content)
