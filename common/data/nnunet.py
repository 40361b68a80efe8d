"""Channels of scans, and nnU-Net's raw data sets, whose cases are what lies in folders, a file for each channel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..volumes.dicom.headers import read_modality
from ..volumes.names import EXTENSIONS, channel_file, channel_number

KEYS = ("channel_names", "modality")  # of nnU-Net v2; of the Decathlon and nnU-Net v1
CT = ("ct", "cta", "cect", "ncct")
CHANNEL = "_0000"  # of the first channel, behind the case and before the ending
LISTS = ("training", "validation", "test", "testing", "unlabeled")
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = "imagesTr", "labelsTr", "imagesTs", "labelsTs"
UNLABELED_IMAGES = "imagesUn"  # nnU-Net has no place for them; those who have such scans put them there


def with_lists(content: Mapping[str, Any], directory: Path, file: str) -> dict[str, Any]:
    """Return the content of a `dataset.json` with lists of cases, those of nnU-Net v2 by what its folders hold.

    Where there are `channel_names` or `file_ending` and no list, images of imagesTr with a file in labelsTr become
    `training`, those without one and images of imagesUn `unlabeled`, and images of imagesTs `test`, with their file in
    labelsTs where there is one. They are named as nnU-Net v1 names them, without the channel, for `first_channel`.
    Anything else stays.

    Args:
        content: as parsed.
        directory: of the data set.
        file: name of the datalist, for the lines of what is wrong.

    Raises:
        InputError: files of more channels than are named, labels that are regions or say what to ignore, a file ending
            that can't be read, no image, images without a channel's number, labels without an image, another number
            than `numTraining`.
    """
    further = _further_channel(content, directory)
    if further:
        raise InputError(f"{file}: {further}")
    if "channel_names" not in content and "file_ending" not in content:
        return dict(content)
    problems = _check_labels(content.get("labels"), file)
    lists = {}
    if not any(isinstance(content.get(name), list) for name in LISTS):
        lists = _list_folders(content, directory, file, problems)
    if problems:
        raise InputError(problems)
    return {**content, **lists}


def first_channel(image: Any, directory: Path) -> Any:
    """Return the file of a listed image: itself, or, where that isn't there, nnU-Net's file of its first channel."""
    if not isinstance(image, str):
        return image
    try:
        found = channel_file(Path(image), 0)
        return found.as_posix() if not (directory / image).exists() and (directory / found).exists() else image
    except (OSError, ValueError, RuntimeError):  # no usable path, which is said where it is resolved
        return image


def _further_channel(content: Mapping[str, Any], directory: Path) -> str | None:
    """Return in words that a listed case has a file of another channel than those that are named."""
    training, channels = content.get("training"), len(named_channels(content)) or 1
    for entry in training if isinstance(training, list) else []:
        image = entry.get("image") if isinstance(entry, Mapping) else entry
        found = first_channel(image, directory)
        if found != image and (directory / (more := channel_file(Path(found), channels))).exists():
            return f"beside {found} there is {more.name}; wanted {_channels(channels)}, or that modality names all"
    return None


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _check_labels(labels: Any, file: str) -> list[str]:
    if not isinstance(labels, Mapping):
        return []
    regions = [str(name) for name, value in labels.items() if isinstance(value, list)]
    problems = []
    if regions:
        problems.append(
            f"{file}: labels has regions, which are several values each ({', '.join(regions)}); wanted one value for "
            'each name, as in {"background": 0, "liver": 1}, and masks with these values'
        )
    if "ignore" in labels:
        problems.append(
            f'{file}: labels has "ignore", of voxels that say nothing; wanted masks in which every voxel counts: '
            "tools/datasets.py nnunet takes those (for masks on a few slices see label_slices)"
        )
    return problems


def _list_folders(
    content: Mapping[str, Any], directory: Path, file: str, problems: list[str]
) -> dict[str, list[dict[str, str]]]:
    ending = content.get("file_ending", ".nii.gz")
    if ending not in EXTENSIONS:
        problems.append(f"{file}: file_ending is {ending!r}; wanted one of {', '.join(EXTENSIONS)}")
        return {}
    channels = len(named_channels(content)) or 1
    images = _find_cases(directory, IMAGES, ending, channels, problems)
    labels = [name.removesuffix(ending) for name in _names(directory / LABELS) if name.endswith(ending)]
    if not images and not problems:
        found = "none" if (directory / IMAGES).is_dir() else "no such folder"
        problems.append(
            f"{file}: has no list of cases, as nnU-Net v2's, whose cases are files {IMAGES}/CASE{CHANNEL}{ending}; "
            f"found {found} in {directory}; wanted these, or a list training"
        )
        return {}
    lonely = [case for case in labels if case not in images]
    if lonely and not problems:
        problems.append(
            f"{file}: {len(lonely)} labels have no image (the first: {LABELS}/{lonely[0]}{ending}); wanted "
            f"{IMAGES}/{lonely[0]}{CHANNEL}{ending}"
        )
    training = [case for case in images if case in labels]
    count = content.get("numTraining")
    if isinstance(count, int) and count not in (len(training), len(images)) and not problems:
        problems.append(
            f"{file}: numTraining is {count}, {IMAGES} has {len(images)} images, {len(training)} with a file in "
            f"{LABELS}; wanted the same number"
        )
    tested = _names(directory / TEST_LABELS)
    return {
        "training": [{"image": f"{IMAGES}/{case}{ending}", "label": f"{LABELS}/{case}{ending}"} for case in training],
        "test": [
            {"image": f"{TEST_IMAGES}/{case}{ending}"}
            | ({"label": f"{TEST_LABELS}/{case}{ending}"} if f"{case}{ending}" in tested else {})
            for case in _find_cases(directory, TEST_IMAGES, ending, channels, problems)
        ],
        "unlabeled": [
            *({"image": f"{IMAGES}/{case}{ending}"} for case in images if case not in labels),
            *(
                {"image": f"{UNLABELED_IMAGES}/{case}{ending}"}
                for case in _find_cases(directory, UNLABELED_IMAGES, ending, channels, problems)
            ),
        ],
    }


def _find_cases(directory: Path, folder: str, ending: str, channels: int, problems: list[str]) -> list[str]:
    """Return the cases of a folder of images, by their files of the first channel."""
    stems = [name.removesuffix(ending) for name in _names(directory / folder) if name.endswith(ending)]
    numbered = {stem: channel_number(f"{stem}{ending}") for stem in stems}
    others = [stem for stem, number in numbered.items() if number is None]
    more = [stem for stem, number in numbered.items() if number is not None and number >= channels]
    if more and f"{more[0][:-5]}{CHANNEL}" in stems:
        problems.append(
            f"{folder}/{more[0]}{ending}: is another channel of {more[0][:-5]}; wanted {_channels(channels)}, or that "
            "channel_names names all"
        )
    elif more or others:
        wrong = (more + others)[0]
        problems.append(
            f"{folder}/{wrong}{ending}: has no number of a channel, as {len(more + others)} files of {folder}; wanted "
            f"{wrong}{CHANNEL}{ending}"
        )
    return [stem.removesuffix(CHANNEL) for stem in stems if stem.endswith(CHANNEL)]


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def named_channels(content: Mapping[str, Any]) -> list[str]:
    """Return the names of the channels in their order, as the keys of a `dataset.json` give them; none: not said."""
    said = next((content[key] for key in KEYS if content.get(key)), None)
    if isinstance(said, Mapping):
        keys = sorted(said, key=lambda key: (not str(key).isdigit(), int(key) if str(key).isdigit() else 0))
        return [str(said[key]) for key in keys]
    if isinstance(said, str):
        return [said]
    return [str(name) for name in said] if isinstance(said, Sequence) else []


def channel_kinds(content: Mapping[str, Any], images: Sequence[str]) -> list[str]:
    """Return the names of the channels; where the datalist doesn't say, what all images do that are DICOM series."""
    named = named_channels(content)
    if named:
        return named
    found = {read_modality(Path(image)) for image in images}
    return [found.pop() or ""] if len(found) == 1 else [""]


def has_hounsfield(name: str) -> bool:
    """Return whether a channel of this name is a CT, whose numbers mean the same in every scan: `CT`, `CT (venous)`."""
    words = re.findall(r"[a-z]+", name.lower())
    return bool(words) and words[0] in CT
