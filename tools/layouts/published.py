"""Three public data sets in the layouts in which their publishers give them away."""

from __future__ import annotations

import re
from pathlib import Path

from common.errors import InputError

from .dataset import Published, Scan

LA_SPACING = 0.625  # mm, isotropic; the h5 release holds no geometry
HELD_OUT = {"oasis": (20, 80), "la": (4, 20), "hippocampus": (20, 40)}  # validation, test


def read_oasis(source: Path, labels: str) -> Published:
    """Read neurite-oasis v1.0; names of structures from its colour table, numbers where that is missing."""
    segmentation = f"aligned_{labels}.nii.gz"
    folders = sorted(folder for folder in source.glob("OASIS_OAS1_*_MR*") if folder.is_dir())
    scans = [Scan(folder.name, folder / "aligned_norm.nii.gz", folder / segmentation) for folder in folders]
    _require(scans, source, f"folders OASIS_OAS1_xxxx_MR1 with aligned_norm.nii.gz and {segmentation}")
    count = 35 if labels == "seg35" else 4
    names = {0: "background"} | {value: f"structure_{value}" for value in range(1, count + 1)}
    table = source / f"{labels}_labels.txt"  # FreeSurfer's colour table: value, name, red, green, blue, alpha
    if table.is_file():
        found = re.findall(r"^\s*(\d+)\s+(\S+)", table.read_text(encoding="utf-8"), flags=re.MULTILINE)
        names |= {int(value): name for value, name in found if 0 < int(value) <= count}
    about = {
        "name": f"OASIS (neurite v1.0, {labels})",
        "description": "T1 brain MRI, skull-stripped, bias-corrected, affinely aligned, 160x192x224 at 1 mm, in [0, 1]",
        "reference": "Hoopes et al., HyperMorph, IPMI 2021; Marcus et al., Journal of Cognitive Neuroscience 2007",
        "licence": "OASIS data use agreement",
    }
    return Published(about, names, scans)


def read_la(source: Path) -> Published:
    """Read the left atria of the 2018 challenge; train.list and test.list decide where they are there."""
    scans = []
    for pattern in ("*", "*/*"):
        for folder in sorted(folder for folder in source.glob(pattern) if folder.is_dir()):
            if (file := folder / "mri_norm2.h5").is_file():
                scans.append(Scan(folder.name, file, file, convert=convert_h5))
            elif (folder / "lgemri.nrrd").is_file():
                label = folder / "laendo.nrrd"
                scans.append(Scan(folder.name, folder / "lgemri.nrrd", label, convert=convert_nrrd))
    _require(scans, source, "folders with mri_norm2.h5, or with lgemri.nrrd and laendo.nrrd")
    about = {
        "name": "LA2018",
        "description": "left atrium, late gadolinium-enhanced MRI; the h5 release is cropped around the label",
        "reference": "Xiong et al., Medical Image Analysis 2020; h5 release: Yu et al., MICCAI 2019 (UA-MT)",
        "licence": "challenge terms: research use, do not redistribute",
    }
    names = {0: "background", 1: "left_atrium"}
    lists = next((folder for folder in (source, source.parent) if (folder / "test.list").is_file()), None)
    if lists is None:
        return Published(about, names, scans)
    by_name = {scan.case: scan for scan in scans}
    parts = {}
    for part in ("train", "test"):
        if not (lists / f"{part}.list").is_file():
            raise InputError(f"{lists / part}.list: no such file; wanted train.list beside test.list")
        wanted = (lists / f"{part}.list").read_text(encoding="utf-8").split()
        missing = [case for case in wanted if case not in by_name]
        if missing:
            raise InputError([f"{lists / part}.list: case {case} has no folder in {source}" for case in missing])
        parts[part] = [by_name[case] for case in wanted]
    return Published(about, names, parts["train"], test=parts["test"])


def read_hippocampus(source: Path) -> Published:
    """Read MSD Task04; its test images, which have no public labels, become the unlabeled list."""
    from common.data.datalist import read_datalist
    from common.data.selection import labeled_cases

    published = read_datalist(source)
    held = [Scan(c["case"], Path(c["image"]), Path(c["label"])) for c in labeled_cases(published)]
    open_cases = tuple(Scan(c["case"], Path(c["image"]), None) for c in published.test if "label" not in c)
    about = {
        "name": "MSD Task04 Hippocampus",
        "description": "T1 MRI crops around the hippocampus, 1 mm isotropic",
        "reference": "Antonelli et al., Nature Communications 2022 (Medical Segmentation Decathlon)",
        "licence": "CC-BY-SA 4.0",
    }
    return Published(about, published.labels, held, unlabeled=open_cases)


def convert_h5(source: Path, kind: str, target: Path) -> None:
    import nibabel
    import numpy as np

    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{source}: h5py is not installed; wanted for this layout: pip install h5py") from error
    try:
        with h5py.File(source, "r") as file:
            array = np.asarray(file[kind])
    except (OSError, KeyError) as error:
        raise InputError(f"{source}: no readable dataset {kind} ({error}); wanted the keys image and label") from error
    array = (array > 0).astype(np.uint8) if kind == "label" else array.astype(np.float32)
    image = nibabel.Nifti1Image(array, np.diag([LA_SPACING] * 3 + [1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, target)


def convert_nrrd(source: Path, kind: str, target: Path) -> None:
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(source))
    except RuntimeError as error:
        raise InputError(f"{source}: not a readable nrrd file; wanted lgemri.nrrd and laendo.nrrd") from error
    SimpleITK.WriteImage(image > 0 if kind == "label" else image, str(target))  # the published mask is 0 and 255


def _require(scans: list[Scan], source: Path, wanted: str) -> None:
    """Raise one line for each missing file, or one where nothing of the layout is there."""
    if not scans:
        raise InputError(f"{source}: found none of the data set; wanted {wanted}")
    missing = [path for scan in scans for path in (scan.image, scan.label) if path and not path.is_file()]
    if missing:
        raise InputError([f"{path}: no such file; wanted {wanted}" for path in missing])
