"""nnU-Net's raw data sets: files named by channel, and a `dataset.json` whose cases are the content of its folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..volumes.names import EXTENSIONS, case_id

CHANNEL = "_0000"  # of the first channel, behind the case and before the ending
LISTS = ("training", "validation", "test", "testing", "unlabeled")
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = "imagesTr", "labelsTr", "imagesTs", "labelsTs"


def with_lists(content: Mapping[str, Any], directory: Path, file: str) -> dict[str, Any]:
    """Return the content of a `dataset.json` with lists of cases, those of nnU-Net v2 by what its folders hold.

    Where there are `channel_names` or `file_ending` and no list, images of imagesTr with a file in labelsTr become
    `training`, those without one `unlabeled`, and images of imagesTs `test`, with their file in labelsTs where there is
    one. They are named as nnU-Net v1 names them, without the channel, for `first_channel`. Anything else stays.

    Args:
        content: as parsed.
        directory: of the data set.
        file: name of the datalist, for the lines of what is wrong.

    Raises:
        InputError: several channels, labels that are regions or say what to ignore, a file ending that can't be read,
            no image, images without a channel's number, labels without an image, another number than `numTraining`.
    """
    names = content.get("channel_names")
    second = None if names is not None else _second_channel(content, directory)
    if (names is not None and len(names) > 1) or second:
        found = second or f"channel_names has {len(names)} ({', '.join(map(str, _values(names)))})"
        raise InputError(f"{file}: {found}; wanted scans of one channel, of several none is read")
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
        found = _channel_file(image)
        return found if not (directory / image).exists() and (directory / found).exists() else image
    except (OSError, ValueError, RuntimeError):  # no usable path, which is said where it is resolved
        return image


def _channel_file(image: str, channel: str = CHANNEL) -> str:
    name = Path(image).name
    case = case_id(image)
    return f"{image[: len(image) - len(name)]}{case}{channel}{name[len(case) :]}" if image.endswith(name) else image


def _second_channel(content: Mapping[str, Any], directory: Path) -> str | None:
    """Return in words that cases of nnU-Net v1 have several channels, by what `modality` names or what lies there."""
    training = content.get("training")
    for entry in training if isinstance(training, list) else []:
        image = entry.get("image") if isinstance(entry, Mapping) else entry
        found = first_channel(image, directory)
        if found == image:
            continue
        modality = content.get("modality")
        if isinstance(modality, Mapping | list) and len(modality) > 1:
            return f"modality has {len(modality)} channels ({', '.join(map(str, _values(modality)))}), a file each"
        second = _channel_file(image, "_0001")
        return f"beside {found} there is {second}" if (directory / second).exists() else None
    return None


def _values(names: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    return list(names.values() if isinstance(names, Mapping) else names)


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
            f'{file}: labels has "ignore", of voxels that say nothing; wanted masks in which every voxel counts '
            "(for masks on a few slices see label_slices)"
        )
    return problems


def _list_folders(
    content: Mapping[str, Any], directory: Path, file: str, problems: list[str]
) -> dict[str, list[dict[str, str]]]:
    ending = content.get("file_ending", ".nii.gz")
    if ending not in EXTENSIONS:
        problems.append(f"{file}: file_ending is {ending!r}; wanted one of {', '.join(EXTENSIONS)}")
        return {}
    images = _find_cases(directory, IMAGES, ending, problems)
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
            for case in _find_cases(directory, TEST_IMAGES, ending, problems)
        ],
        "unlabeled": [{"image": f"{IMAGES}/{case}{ending}"} for case in images if case not in labels],
    }


def _find_cases(directory: Path, folder: str, ending: str, problems: list[str]) -> list[str]:
    """Return the cases of a folder of images, by their files of the first channel."""
    stems = [name.removesuffix(ending) for name in _names(directory / folder) if name.endswith(ending)]
    others = [stem for stem in stems if not stem.endswith(CHANNEL)]
    more = [stem for stem in others if stem[-5:-4] == "_" and stem[-4:].isdigit()]
    if more and f"{more[0][:-5]}{CHANNEL}" in stems:
        problems.append(
            f"{folder}/{more[0]}{ending}: is another channel of {more[0][:-5]}; wanted scans of one channel, of "
            "several none is read"
        )
    elif others:
        problems.append(
            f"{folder}/{others[0]}{ending}: has no number of a channel, as {len(others)} files of {folder}; wanted "
            f"{others[0]}{CHANNEL}{ending}"
        )
    return [stem.removesuffix(CHANNEL) for stem in stems if stem.endswith(CHANNEL)]


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
