"""Folders of one mask a structure, as TotalSegmentator writes them and as its data sets are published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from common.volumes.names import case_id

from .dataset import WHOLE_FILES, Published, Scan

MASKS = "segmentations"  # the folder's name in the published sets and in TotalSegmentator's own examples
IMAGES = {"ct": "CT", "mri": "MRI"}  # what the published sets call the image of a case
WANTED = f"a folder for each case with {MASKS}/NAME.nii.gz and one image (ct.nii.gz), or --images"


def read_totalsegmentator(
    source: Path,
    images: Path | None = None,
    structures: Sequence[str] | None = None,
    modality: str | None = None,
    shared: float = 1.0,
) -> Published:
    """Read CASE/segmentations/NAME.nii.gz beside the case's one image; cases without masks become unlabelled.

    A structure without a file is one that the case's label doesn't tell about; one whose file is empty isn't there.

    Args:
        source: folder of the cases; with `images` the masks may also lie in CASE itself.
        images: folder of CASE.nii.gz (or .nii, .nrrd, .mha), where they don't lie beside the masks.
        structures: names of the wanted ones, the first of which becomes the value 1; None: all that are found, sorted.
        modality: of the images; None: what the published sets' names of them say.
        shared: see `merge_masks`.

    Raises:
        InputError: no case, a case without an image or with several, a structure that no case has, no modality.
    """
    found, problems = [], []
    flat = {} if images is None else {case_id(file): file for file in _volumes(images)}
    folders = [folder for folder in sorted(source.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    for folder in folders:
        beside = folder / MASKS
        masks = {case_id(file): file for file in _volumes(beside if beside.is_dir() or images is None else folder)}
        if images is not None:
            image = flat.get(folder.name)
            if image is None:
                problems.append(f"{folder.name}: has no image in {images}; wanted {folder.name}.nii.gz there")
        else:
            image, said = _image(folder)
            problems += said
        if image is not None:
            found.append((folder.name, image, masks))
    known = {name for _, _, masks in found for name in masks}
    if not problems and not known:
        problems.append(f"{source}: found no mask of a structure in {len(folders)} folders; wanted {WANTED}")
    missing = [name for name in structures or () if name not in known]
    if known and missing:
        few = f"{', '.join(sorted(known)[:8])}{', ...' if len(known) > 8 else ''}"
        problems += [f"structure {name}: no case has a file of it; wanted some of {few}" for name in missing]
    kinds = {modality or IMAGES.get(case_id(image), "") for _, image, _ in found}
    if found and not problems and (len(kinds) > 1 or "" in kinds):
        problems.append(f"{source}: the images' names don't say one modality; wanted --modality CT, MRI or another")
    if problems:
        raise InputError(problems)
    values = {name: value for value, name in enumerate(structures or sorted(known), start=1)}
    scans = [
        Scan(case, image, None, masks={values[name]: file for name, file in masks.items() if name in values})
        for case, image, masks in found
    ]
    return Published(
        about={"name": source.name, "description": "masks of TotalSegmentator, merged: no labels drawn by a person"},
        labels={0: "background", **{value: name for name, value in values.items()}},
        scans=[scan for scan in scans if scan.masks],
        unlabeled=tuple(scan for scan in scans if not scan.masks),
        modality=(kinds.pop(),),
        most_shared=shared,
    )


def _volumes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return [file for file in files if file.name.lower().endswith(WHOLE_FILES)]


def _image(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the image of a case and no line, or None and what is wrong."""
    files = _volumes(folder)
    named = [file for file in files if case_id(file) in IMAGES] or files
    if len(named) == 1:
        return named[0], []
    found = ", ".join(file.name for file in named[:4]) or "no image"
    return None, [f"{folder.name}: found {found}; wanted one image beside {MASKS}, such as ct.nii.gz"]
