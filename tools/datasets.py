"""Bring a public data set from its published layout to an MSD-layout folder with dataset.json.

    python tools/datasets.py oasis SOURCE DIR        neurite-oasis v1.0: OASIS_OAS1_*_MR1/aligned_norm.nii.gz
    python tools/datasets.py la SOURCE DIR           LA 2018: the h5 release of UA-MT, or the challenge's nrrd folders
    python tools/datasets.py hippocampus SOURCE DIR  MSD Task04 as published

DIR gets imagesTr, labelsTr, imagesTs, labelsTs and dataset.json; SOURCE stays as it is. NIfTI files are hard links to
those of SOURCE: they take no space, but a change to one is a change to both (--copy makes copies; another disk gets
copies anyway), because the paths of a datalist may not lead out of its folder. h5 and nrrd files are converted to
NIfTI. An existing DIR/dataset.json is never overwritten.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LA_SPACING = 0.625  # mm, isotropic; the h5 release holds no geometry
HELD_OUT = {"oasis": (20, 80), "la": (4, 20), "hippocampus": (20, 40)}  # validation, test


@dataclass(frozen=True)
class Scan:
    """One case of a published data set; image and label are the same file in the h5 release."""

    case: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Published:
    """What a data set is called and holds, and the test cases where its publishers chose them."""

    about: dict[str, str]
    labels: dict[int, str]
    scans: list[Scan]
    test: list[Scan] | None = None
    unlabeled: tuple[Scan, ...] = ()


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


def read_la(source: Path, labels: str) -> Published:
    """Read the left atria of the 2018 challenge; train.list and test.list decide where they are there."""
    scans = []
    for pattern in ("*", "*/*"):
        for folder in sorted(folder for folder in source.glob(pattern) if folder.is_dir()):
            if (folder / "mri_norm2.h5").is_file():
                scans.append(Scan(folder.name, folder / "mri_norm2.h5", folder / "mri_norm2.h5"))
            elif (folder / "lgemri.nrrd").is_file():
                scans.append(Scan(folder.name, folder / "lgemri.nrrd", folder / "laendo.nrrd"))
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
            raise _problem(f"{lists / part}.list: no such file; wanted train.list beside test.list")
        wanted = (lists / f"{part}.list").read_text(encoding="utf-8").split()
        missing = [case for case in wanted if case not in by_name]
        if missing:
            raise _problem([f"{lists / part}.list: case {case} has no folder in {source}" for case in missing])
        parts[part] = [by_name[case] for case in wanted]
    return Published(about, names, parts["train"], test=parts["test"])


def read_hippocampus(source: Path, labels: str) -> Published:
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


READERS: dict[str, Callable[[Path, str], Published]] = {
    "oasis": read_oasis,
    "la": read_la,
    "hippocampus": read_hippocampus,
}


def split(published: Published, validation: int, test: int, seed: int) -> dict[str, list[Scan]]:
    """Draw test and validation cases with `seed`, the same on every machine; training keeps at least one."""
    scans = sorted(published.scans, key=lambda scan: scan.case)
    random.Random(seed).shuffle(scans)
    held_out = validation + (0 if published.test is not None else test)
    if validation < 0 or test < 0 or len(scans) <= held_out:
        raise _problem(
            f"found {len(scans)} cases, {held_out} of them to hold out; wanted at least {max(held_out, 0) + 1} cases, "
            "or smaller --validation and --test"
        )
    parts = {"training": scans[held_out:], "validation": scans[:validation]}
    parts["test"] = list(published.test) if published.test is not None else scans[validation:held_out]
    parts["unlabeled"] = list(published.unlabeled)
    return {part: sorted(cases, key=lambda scan: scan.case) for part, cases in parts.items()}


def write_dataset(published: Published, parts: dict[str, list[Scan]], directory: Path, copy: bool) -> None:
    """Bring all files into `directory` and write dataset.json last, so that a broken run leaves no data set."""
    content: dict[str, Any] = {
        **published.about,
        "modality": {"0": "MRI"},
        "labels": {str(value): name for value, name in sorted(published.labels.items())},
    }
    for part, scans in parts.items():
        folder = "Ts" if part == "test" else "Un" if part == "unlabeled" else "Tr"
        entries: list[dict[str, str]] = []
        for scan in scans:
            entry = {}
            for kind, source in (("image", scan.image), ("label", scan.label)):
                if source is not None:
                    suffix = ".nii" if source.suffix == ".nii" else ".nii.gz"
                    entry[kind] = f"{kind}s{folder}/{scan.case}{suffix}"
                    _bring(source, kind, directory / entry[kind], copy)
            entries.append(entry)
        content[part] = entries
    target = directory / "dataset.json"
    target.with_suffix(".part").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(target.with_suffix(".part"), target)


def _bring(source: Path, kind: str, target: Path, copy: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"part-{target.name}")
    part.unlink(missing_ok=True)
    if source.suffix == ".h5":
        _convert_h5(source, kind, part)
    elif source.suffix == ".nrrd":
        _convert_nrrd(source, kind, part)
    else:
        try:
            if copy:
                raise OSError
            os.link(source.resolve(), part)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(source, part)
    os.replace(part, target)
    part.unlink(missing_ok=True)  # a link renamed onto a link to the same file stays


def _convert_h5(source: Path, kind: str, target: Path) -> None:
    import nibabel
    import numpy as np

    try:
        import h5py
    except ImportError as error:
        raise _problem(f"{source}: h5py is not installed; wanted for this layout: pip install h5py") from error
    try:
        with h5py.File(source, "r") as file:
            array = np.asarray(file[kind])
    except (OSError, KeyError) as error:
        raise _problem(f"{source}: no readable dataset {kind} ({error}); wanted the keys image and label") from error
    array = (array > 0).astype(np.uint8) if kind == "label" else array.astype(np.float32)
    image = nibabel.Nifti1Image(array, np.diag([LA_SPACING] * 3 + [1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, target)


def _convert_nrrd(source: Path, kind: str, target: Path) -> None:
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(source))
    except RuntimeError as error:
        raise _problem(f"{source}: not a readable nrrd file; wanted lgemri.nrrd and laendo.nrrd") from error
    SimpleITK.WriteImage(image > 0 if kind == "label" else image, str(target))  # the published mask is 0 and 255


def _require(scans: list[Scan], source: Path, wanted: str) -> None:
    """Raise one line for each missing file, or one where nothing of the layout is there."""
    if not scans:
        raise _problem(f"{source}: found none of the data set; wanted {wanted}")
    missing = [path for scan in scans for path in (scan.image, scan.label) if path and not path.is_file()]
    if missing:
        raise _problem([f"{path}: no such file; wanted {wanted}" for path in missing])


def _problem(lines: str | list[str]) -> Exception:
    from common.errors import InputError

    return InputError(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 1 after one line for each problem."""
    from common.launch.words import place

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=list(READERS))
    parser.add_argument("source", type=place, metavar="SOURCE", help="folder of the unpacked data set")
    parser.add_argument("directory", type=place, metavar="DIR", help="folder to write, made where missing")
    defaults = ", ".join(f"{name} {validation}/{test}" for name, (validation, test) in HELD_OUT.items())
    parser.add_argument("--validation", type=int, metavar="N", help=f"validation/test cases, default {defaults}")
    parser.add_argument("--test", type=int, metavar="N", help="not used where train.list and test.list decide")
    parser.add_argument("--seed", type=int, default=0, help="of the split, default 0")
    parser.add_argument("--labels", choices=["seg35", "seg4"], default="seg35", help="of oasis, default seg35")
    parser.add_argument("--copy", action="store_true", help="copy files instead of hard links")
    given = parser.parse_args(arguments)

    from common.data.datalist import read_datalist
    from common.errors import InputError, printable

    validation, test = HELD_OUT[given.dataset]
    validation = validation if given.validation is None else given.validation
    test = test if given.test is None else given.test
    target = given.directory / "dataset.json"
    try:
        if not given.source.is_dir():
            raise InputError(f"{given.source}: no such folder; wanted the unpacked data set")
        if target.exists():
            raise InputError(f"{target}: already there; wanted a DIR without a dataset.json")
        published = READERS[given.dataset](given.source, given.labels)
        parts = split(published, validation, test, given.seed)
        write_dataset(published, parts, given.directory, given.copy)
        read_datalist(given.directory)
    except InputError as error:
        print(*(f"error: {line}" for line in error.problems), sep="\n", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or given.directory
        print(f"error: {printable(where)}: {error.strerror or error}", file=sys.stderr)
        return 1
    counts = ", ".join(f"{len(cases)} {part}" for part, cases in parts.items() if cases)
    print(f"{target}: {counts}; held out with seed {given.seed}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `common`
    sys.exit(main())
