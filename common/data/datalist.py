"""The datalist: which cases a data set has, what each of them has, and who counts as labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.json_file import read_json
from ..grid.grid import Grid
from ..volumes.names import EXTENSIONS, case_id
from .nnunet import first_channel, with_lists

GROUPS = ("training", "validation", "test", "unlabeled")
TESTING = "testing"  # what MONAI's Auto3DSeg calls test
LARGEST_LABEL = 65535  # a written label map is uint8 or uint16
MOST_LABELS = 4096  # a network has a channel for each

Case = dict[str, Any]


@dataclass(frozen=True)
class Datalist:
    """The content of one `dataset.json`, checked for everything that can be seen without opening an image.

    A case is a dict with `case` (id, unique), `image` (absolute path), `label` (absolute path, only where the case has
    one) and whatever other keys its entry had, unchanged but that a path in `slice_labels` is absolute too, and that
    `known_labels`, the foreground values that its mask tells about, are sorted and only there where they lack some.
    `labels` maps the value in a mask to its name, sorted by value and including 0; class k of a network is the k-th
    value.
    `other` holds the top-level keys not read here. `grid` is that of a model whose training goes on (`read_grid`), None
    where the grid is still to be planned.
    """

    name: str
    directory: Path
    labels: dict[int, str]
    training: list[Case]
    validation: list[Case] = field(default_factory=list)
    test: list[Case] = field(default_factory=list)
    unlabeled: list[Case] = field(default_factory=list)
    other: dict[str, Any] = field(default_factory=dict)
    grid: Grid | None = None


def read_datalist(dataset_dir: str | Path | None, datalist: str | Path | Datalist = "dataset.json") -> Datalist:
    """Read a `dataset.json` of MSD/Decathlon, of Auto3DSeg (`testing`), or of nnU-Net v1 or v2 (`with_lists`).

    Args:
        dataset_dir: folder of the data set; every path in the datalist is relative to it and stays inside it, links
            resolved.
        datalist: name of the JSON file inside `dataset_dir`, or a path to one elsewhere. A relative name is looked for
            in `dataset_dir` first, then in the working directory. One that is read already is returned as it is.

    Raises:
        InputError: one line for each problem, all of them together: missing folder or file, invalid JSON, wrong
            schema, empty training list, a list of cases under another name, missing image or label, `known_labels`
            that are no list of declared values, path outside the folder, duplicate case, the same case in training (or
            unlabeled) and validation or test.
    """
    if isinstance(datalist, Datalist):
        return datalist
    directory = Path(dataset_dir).expanduser()
    if not directory.is_dir():
        found = "a file" if directory.exists() else "nothing"
        raise InputError(f"dataset_dir {directory}: found {found}; wanted a folder with a {Path(datalist).name}")
    directory = directory.absolute()
    inside = directory / Path(datalist).expanduser()
    path = inside if inside.exists() else Path(datalist).expanduser()
    content = with_lists(_read_json(path if path.exists() else inside), directory, path.name)
    problems: list[str] = _find_other_lists(content, path.name)
    tested = TESTING if content.get(TESTING) and not content.get("test") else "test"
    labels = _read_labels(content.get("labels"), path.name, problems)
    groups: dict[str, Any] = {
        group: _read_group(content.get(name), name, directory, path.name, labels, problems)
        for group, name in zip(GROUPS, ("training", "validation", tested, "unlabeled"), strict=True)
    }
    if not groups["training"] and not any(line.startswith(f"{path.name}: training") for line in problems):
        problems.append(f"{path.name}: training is missing or empty; wanted at least one case")
    problems += _find_repeated_cases(groups, path.name)
    if problems:
        raise InputError(problems)
    name = content.get("name")
    return Datalist(
        name=name if isinstance(name, str) and name.strip() else directory.name,
        directory=directory,
        labels=labels,
        other={key: value for key, value in content.items() if key not in (*GROUPS, TESTING, "labels", "name")},
        **groups,
    )


def read_labels(path: Path) -> dict[int, str]:
    """Return the labels, value -> name, of a `dataset.json` or of a JSON file that holds nothing else.

    Raises:
        InputError: no such file, or what is wrong with its `labels`, one line a problem.
    """
    problems: list[str] = []
    labels = _read_labels(_read_json(path).get("labels"), path.name, problems)
    if problems:
        raise InputError(problems)
    return labels


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; wanted an MSD dataset.json")
    content = read_json(path, "an MSD dataset.json")
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}; wanted an object with labels and training")
    return content


def _find_other_lists(content: Mapping[str, Any], file: str) -> list[str]:
    """Return a line for each list of cases that nobody would read."""
    problems = []
    if content.get("test") and content.get(TESTING):
        problems.append(f"{file}: has test and {TESTING}; wanted one of the two")
    for key, value in content.items():
        if key not in (*GROUPS, TESTING) and isinstance(value, list) and value and all(map(_is_case, value)):
            problems.append(f"{file}: {key} is a list of cases; wanted them in {', '.join(GROUPS)} (or {TESTING})")
    return problems


def _is_case(entry: Any) -> bool:
    if isinstance(entry, str):
        return entry.lower().endswith(EXTENSIONS)
    return isinstance(entry, dict) and "image" in entry


def _read_labels(labels: Any, file: str, problems: list[str]) -> dict[int, str]:
    """Read `{"1": "name"}` (MSD) or `{"name": 1}` (nnU-Net v2) as `{1: "name"}` sorted by value."""
    wanted = 'wanted {"0": "background", "1": "liver", ...}'
    if not isinstance(labels, dict) or not labels:
        found = "missing or empty" if labels in (None, {}, []) else f"found a {type(labels).__name__}"
        problems.append(f"{file}: labels {found}; {wanted}")
        return {}
    if len(labels) > MOST_LABELS:
        problems.append(f"{file}: labels has {len(labels)} entries; wanted {MOST_LABELS} at most")
        return {}
    read: dict[int, str] = {}
    names: set[str] = set()
    for key, value in labels.items():
        name, number = (key, value) if isinstance(value, int) and not isinstance(value, bool) else (value, key)
        try:
            number = int(number)
        except (TypeError, ValueError):
            number = -1
        if not isinstance(name, str) or not name.strip() or not 0 <= number <= LARGEST_LABEL:
            problems.append(f"{file}: labels has {shown({key: value})}; {wanted}, values 0 to {LARGEST_LABEL}")
        elif number in read:
            problems.append(f"{file}: labels has the value {number} twice ({read[number]}, {name}); wanted it once")
        elif name in names:
            problems.append(f"{file}: labels has the name {name} twice; wanted it once")
        else:
            read[number] = name
            names.add(name)
    read.setdefault(0, "background")
    if len(read) < 2 and not problems:
        problems.append(f"{file}: labels has only the background; {wanted}")
    return dict(sorted(read.items()))


def _read_group(
    entries: Any, group: str, directory: Path, file: str, labels: Mapping[int, str], problems: list[str]
) -> list[Case]:
    if entries is None:
        return []
    if not isinstance(entries, list):
        problems.append(f"{file}: {group} is a {type(entries).__name__}; wanted a list of cases")
        return []
    cases = []
    for position, entry in enumerate(entries):
        where = f"{file}: {group}[{position}]"
        entry = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict):
            problems.append(f'{where} is {shown(entry)}; wanted {{"image": ..., "label": ...}}')
            continue
        listed = entry.get("image")
        file_of_image = first_channel(listed, directory)
        image = _resolve(file_of_image, "image", where, directory, problems)
        has_label = "label" in entry and group != "unlabeled"  # a label there must never be opened: drop it
        label = _resolve(entry["label"], "label", where, directory, problems) if has_label else None
        if image is None or (has_label and label is None):
            continue
        kept = {key: value for key, value in entry.items() if key not in ("case", "image", "label")}
        if isinstance(kept.get("slice_labels"), str):
            kept["slice_labels"] = _resolve(kept["slice_labels"], "slice_labels", where, directory, problems)
        given = kept.pop("known_labels", None)
        if given is not None and group != "unlabeled":
            known = _read_known(given, labels, has_label, where, problems)
            if known and len(known) < sum(value != 0 for value in labels):
                kept["known_labels"] = known
        case = case_id(image if file_of_image == listed else listed)  # of nnU-Net, without the channel
        cases.append({"case": case, "image": image, **({"label": label} if label else {}), **kept})
    return cases


def _read_known(given: Any, labels: Mapping[int, str], has_label: bool, where: str, problems: list[str]) -> list[int]:
    """Return the foreground values that a mask tells about, sorted; none after saying what is wrong with them."""
    wanted = f"wanted some of {', '.join(str(value) for value in labels if value)}"
    if not labels:  # which is said already
        return []
    if not isinstance(given, list) or any(type(value) is not int for value in given):
        problems.append(f"{where}: known_labels is {shown(given)}; wanted a list of label values such as [1, 3]")
    elif unknown := sorted(set(given) - set(labels)):
        problems.append(f"{where}: known_labels has {', '.join(map(str, unknown))}; {wanted}")
    elif not any(given):
        problems.append(f"{where}: known_labels is {shown(given)}, which tells of no structure; {wanted}")
    elif not has_label:
        problems.append(f"{where} has known_labels but no label; wanted the mask that they are about")
    else:
        return sorted(set(given) - {0})
    return []


def _resolve(value: Any, kind: str, where: str, directory: Path, problems: list[str]) -> str | None:
    """Return the absolute path of one entry, or None after saying why there is none."""
    if not isinstance(value, str) or not value.strip():
        problems.append(f"{where}: {kind} is {shown(value)}; wanted the path of one file")
        return None
    try:
        path = directory / value
        outside = not path.resolve().is_relative_to(directory.resolve())
        exists = not outside and path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # null byte, name too long, loop of links
        problems.append(f"{where}: {kind} {value!r} is no usable path ({error})")
        return None
    if outside:
        problems.append(f"{where}: {kind} {value} leads outside the data set folder {directory}; wanted a path inside")
        return None
    if not exists:
        problems.append(f"{where}: {kind} {value} does not exist in {directory}")
        return None
    return str(Path(*path.parts))  # "./" and doubled slashes dropped, links kept


def shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _find_repeated_cases(groups: Mapping[str, list[Case]], file: str) -> list[str]:
    """Two entries of one id, or of one image file, are a leak or an output that overwrites another."""
    problems = []
    seen_files: dict[Path, tuple[str, str]] = {}
    seen_ids: dict[str, tuple[str, str]] = {}
    for group, cases in groups.items():
        for case in cases:
            here, image = (group, case["image"]), Path(case["image"]).resolve()
            earlier = seen_files.setdefault(image, here)
            named = seen_ids.setdefault(case["case"], here)
            if earlier is not here:
                where = f"twice in {group}" if earlier[0] == group else f"in {earlier[0]} and in {group}"
                problems.append(f"{file}: case {case['case']} is {where} ({case['image']}); wanted it once")
            elif named is not here:
                where = f"{named[0]} and {group}" if named[0] != group else group
                problems.append(
                    f"{file}: case {case['case']} names two images in {where} ({named[1]}, {case['image']}); "
                    "wanted file names that differ"
                )
    return problems
