"""What other layouts are brought to: which scans there are, who is held out, and the folder that is written."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import InputError, printable
from common.volumes.names import channel_file

WHOLE_FILES = (".nii.gz", ".nii", ".nrrd", ".mha")  # header and voxels in one, so that one link brings both


@dataclass(frozen=True)
class Scan:
    """One case of a data set in another layout; image and label may be the same file.

    `image` is the first of `channels` files. `masks`, by label value, are files of one structure each that become the
    label; values of the data set that they lack are not told about. `convert` writes NIfTI of a file that can't be
    linked, by its path, "image" or "label", and where to.
    """

    case: str
    image: Path
    label: Path | None
    channels: int = 1
    masks: Mapping[int, Path] = field(default_factory=dict)
    convert: Callable[[Path, str, Path], None] | None = None


@dataclass(frozen=True)
class Published:
    """What a data set is called and holds, and the test cases where its publishers chose them."""

    about: dict[str, str]
    labels: dict[int, str]
    scans: list[Scan]
    test: list[Scan] | None = None
    unlabeled: tuple[Scan, ...] = ()
    modality: tuple[str, ...] = ("MRI",)
    most_shared: float = 1.0  # of a structure of `masks`, before it is an error


def split(published: Published, validation: int, test: int, seed: int) -> dict[str, list[Scan]]:
    """Draw test and validation cases with `seed`, the same on every machine; training keeps at least one."""
    scans = sorted(published.scans, key=lambda scan: scan.case)
    random.Random(seed).shuffle(scans)
    held_out = validation + (0 if published.test is not None else test)
    if validation < 0 or test < 0 or len(scans) <= held_out:
        raise InputError(
            f"found {len(scans)} cases, {held_out} of them to hold out; wanted at least {max(held_out, 0) + 1} cases, "
            "or smaller --validation and --test"
        )
    parts = {"training": scans[held_out:], "validation": scans[:validation]}
    parts["test"] = list(published.test) if published.test is not None else scans[validation:held_out]
    parts["unlabeled"] = list(published.unlabeled)
    return {part: sorted(cases, key=lambda scan: scan.case) for part, cases in parts.items()}


def write_dataset(published: Published, parts: dict[str, list[Scan]], directory: Path, copy: bool) -> None:
    """Bring all files into `directory` and write dataset.json last, so that a broken run leaves no data set.

    Raises:
        InputError: a file that can't be converted; masks that are no parts of one label, a line each.
    """
    content: dict[str, Any] = {
        **published.about,
        "modality": {str(number): name for number, name in enumerate(published.modality)},
        "labels": {str(value): name for value, name in sorted(published.labels.items())},
    }
    values = {value for value in published.labels if value}
    problems: list[str] = []
    for part, scans in parts.items():
        folder = "Ts" if part == "test" else "Un" if part == "unlabeled" else "Tr"
        entries: list[dict[str, Any]] = []
        for scan in scans:
            entry: dict[str, Any] = {"image": _bring_image(scan, f"images{folder}", directory, copy)}
            if scan.masks:
                entry["label"] = f"labels{folder}/{scan.case}.nii.gz"
                problems += _merge(scan, directory / entry["label"], published)
                if set(scan.masks) != values:
                    entry["known_labels"] = sorted(scan.masks)
            elif scan.label is not None:
                entry["label"] = f"labels{folder}/{scan.case}{_ending(scan, scan.label)}"
                bring(scan.label, directory / entry["label"], copy, scan.convert, "label")
            entries.append(entry)
        content[part] = entries
    if problems:
        raise InputError(problems)
    target = directory / "dataset.json"
    target.with_suffix(".part").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(target.with_suffix(".part"), target)


def _merge(scan: Scan, target: Path, published: Published) -> list[str]:
    """Write the label of a scan's masks, say what lay in several of them, and return what is wrong with them."""
    from .structures import merge_masks  # which needs packages that nothing else here does

    try:
        said = merge_masks(scan.masks, scan.image, target, published.labels, published.most_shared)
    except InputError as error:
        return [f"{scan.case}: {line}" for line in error.problems]
    if said is not None:
        print(printable(f"{scan.case}: {said}"), flush=True)
    return []


def _bring_image(scan: Scan, folder: str, directory: Path, copy: bool) -> str:
    """Bring the file, or those of all channels; return how the datalist names the image."""
    listed = f"{folder}/{scan.case}{_ending(scan, scan.image)}"
    if scan.channels == 1:
        bring(scan.image, directory / listed, copy, scan.convert)
        return listed
    for number in range(scan.channels):
        bring(channel_file(scan.image, number), channel_file(directory / listed, number), copy)
    return listed


def _ending(scan: Scan, file: Path) -> str:
    """Return the ending that a file has in the data set."""
    found = (ending for ending in WHOLE_FILES if file.name.lower().endswith(ending))
    return ".nii.gz" if scan.convert else next(found, file.suffix)


def bring(
    source: Path,
    target: Path,
    copy: bool,
    convert: Callable[[Path, str, Path], None] | None = None,
    kind: str = "image",
) -> None:
    """Let `target` be `source`: as a hard link, as a copy where `copy` wants one or links can't be, or converted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"part-{target.name}")
    part.unlink(missing_ok=True)
    if convert is not None:
        convert(source, kind, part)
    else:
        try:
            if copy:
                raise OSError
            os.link(source.resolve(), part)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(source, part)
    os.replace(part, target)
    part.unlink(missing_ok=True)  # a link renamed onto a link to the same file stays
