"""Cases that a client names itself, as MONAI Label does: its two lists of images and labels, read as a datalist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import Dataset

from ..errors import InputError
from ..files.json_file import read_json
from ..grid.grid import read_grid
from ..volumes.label import read_label
from ..volumes.names import case_id
from ..volumes.read import read_geometry
from ..volumes.volume import Unreadable, compare_grids
from .archived_labels import take_archived_label
from .checks import check_mask
from .datalist import Case, Datalist
from .inputs import IMAGE_EXTENSIONS
from .label_names import channel_names
from .presence import AXES, SliceLabels, derive_slice_labels, ras_axes, slice_labels_entry

AUTO = "auto"
STORE = "datastore_v2.json"
MASKS, PRESENCE, LABEL_SLICES = "masks", "presence", "label_slices"


class PreparedDataset(Dataset):
    """A dataset of items that were prepared elsewhere; `data`, the list that a client may give, has been read there.

    Args:
        data: cases of a client, or None; not looked at here.
        prepared: a sequence of items.
        transform: of an item.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]] | None, prepared: Sequence[Any], transform: Any = None):
        super().__init__(prepared, transform)


def client_datalist(
    training: Sequence[Mapping[str, str]] | None,
    validation: Sequence[Mapping[str, str]] | None,
    metadata: str,
    model: str | None = None,
    unlabeled_dir: str | None = None,
    supervision: str = MASKS,
    slice_axis: str = AXES[2],
) -> Datalist | None:
    """Return the cases of a client as a datalist, or None where no client has given any.

    No label is opened but those of `training`, and these only where `supervision` is not "masks".

    Args:
        training: [{"image": path, "label": path}]; None: there is no client. A case without a label is unlabelled.
        validation: the same, for scoring alone; None: none. One without a label is unlabelled, too.
        metadata: metadata.json of the bundle, whose `channel_def` names the labels.
        model: model.pt to go on with: its values and its grid are taken over, and `channel_def` names its classes. None
            or no such file: the values are the channels' own numbers, and the grid is planned.
        unlabeled_dir: folder of more images, those of both lists left out; "auto": every folder that an image of
            `training` lies in; None: no more.
        supervision: what the training cases keep of their labels. "masks": the file. "presence": on which slices each
            label has a voxel, and not the file. "label_slices": the masks of all slices that show any label, with
            presence bits that are 1 between the first and the last slice of a label but where a slice with masks
            doesn't show it.
        slice_axis: "sagittal", "coronal" or "axial": what the slices count; the nearest axis of each file.

    Raises:
        InputError: one line for each problem, all of them together: no case, a path that is missing, two images of one
            name, classes of the model that metadata doesn't name, a label that can't be read, or one whose segments
            MONAI Label knows by other names.
    """
    if training is None:
        return None
    if supervision not in (MASKS, PRESENCE, LABEL_SLICES) or slice_axis not in AXES:
        raise ValueError(f"supervision is {supervision!r}, slice_axis is {slice_axis!r}")
    problems: list[str] = []
    known = Path(model).expanduser().is_file() if model else False
    labels = _read_labels(Path(metadata), read_grid(model, {}).label_values if known else None)
    given = [_read_case(entry, "training", problems) for entry in training]
    scored = [_read_case(entry, "validation", problems) for entry in validation or []]
    if not given:
        problems.append("the client gave no training case; wanted at least one image with a label")
    had = sum("label" in case for case in [*given, *scored])
    given, scored = ([_take_label(case, labels, problems) for case in group] for group in (given, scored))
    if problems:
        raise InputError(problems)
    passed_over = had - sum("label" in case for case in [*given, *scored])
    if passed_over:
        print(
            f"{passed_over} scans have no label but what a model predicted or another task has; not learnt from",
            flush=True,
        )
    unlabeled = [case for case in [*given, *scored] if "label" not in case]
    cases, scored = ([case for case in group if "label" in case] for group in (given, scored))
    if not cases:
        raise InputError("the client gave no training case with a label; wanted at least one")
    unlabeled += _find_unlabeled(unlabeled_dir, given, scored)
    _require_distinct([*cases, *scored, *unlabeled])
    if supervision != MASKS:
        cases = [_without_masks(case, labels, supervision, AXES.index(slice_axis), problems) for case in cases]
        if problems:
            raise InputError(problems)
    directory = Path(given[0]["image"]).parent
    return Datalist(
        name=directory.name,
        directory=directory,
        labels=labels,
        training=cases,
        validation=scored,
        unlabeled=unlabeled,
        grid=read_grid(model, {}) if known else None,
    )


def _read_labels(metadata: Path, values: Sequence[int] | None) -> dict[int, str]:
    names = channel_names(metadata)
    values = list(range(len(names))) if values is None else values
    if len(values) != len(names):
        raise InputError(
            f"{metadata}: channel_def names {len(names)} classes ({', '.join(names)}), models/model.pt has "
            f"{len(values)}; wanted a name for each: python -m tools.describe_model"
        )
    return dict(zip(values, names, strict=True))


def _read_case(entry: Mapping[str, str], group: str, problems: list[str]) -> Case:
    case = {"case": case_id(entry["image"])}
    for key in ("image", "label"):
        if entry.get(key):
            case[key] = str(Path(entry[key]).absolute())
            if not Path(case[key]).exists():
                problems.append(f"{case[key]}: no such file; the client gave it as the {key} of a {group} case")
    return case


def _take_label(case: Case, labels: Mapping[int, str], problems: list[str]) -> Case:
    """Return a case with the label that MONAI Label's notes, datastore_v2.json beside the images, say is its own."""
    if "label" not in case:
        return case
    label = Path(case["label"])
    try:
        store = read_json(label.parents[2] / STORE, "MONAI Label's notes")
        notes = store["objects"][case["case"]]["labels"][label.parent.name]["info"]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return case
    if not isinstance(notes, Mapping):
        return case
    taken = take_archived_label(case, notes, labels, problems)
    if taken is case:
        problems += _check_segments(label, notes, labels)
    return taken


def _check_segments(label: Path, notes: Mapping[str, Any], labels: Mapping[int, str]) -> list[str]:
    """Return a line where a label's values don't mean what the bundle's names say.

    3D Slicer numbers the segments that it submits by their order, whatever they are called; MONAI Label notes their
    names.
    """
    try:
        segments = [str(segment["name"]) for segment in notes["label_info"]]
    except (KeyError, TypeError):
        return []  # not submitted by a viewer that says what its segments are
    wanted = {name.lower(): value for value, name in labels.items() if value}
    numbered = dict(enumerate(segments, start=1))
    # a segment beyond the bundle's names is no harm as long as it is empty, which the mask's values tell
    if all(wanted.get(name.lower(), None if value in labels else value) == value for value, name in numbered.items()):
        return []
    order = ", ".join(f"{name} {value}" for value, name in numbered.items())
    names = ", ".join(f"{name} {value}" for name, value in wanted.items())
    return [
        f"{label.name}: was submitted with the segments {order}; wanted {names}: put them into this order, empty ones "
        "too, and submit it again"
    ]


def _find_unlabeled(folder: str | None, given: Sequence[Case], scored: Sequence[Case]) -> list[Case]:
    if folder in (None, "null", "None"):  # the command line hands over words
        return []
    folders = {Path(case["image"]).parent for case in given} if folder == AUTO else {Path(folder).expanduser()}
    taken = {Path(case["image"]).resolve() for case in [*given, *scored]}
    found = []
    for place in sorted(folders):
        if not place.is_dir():
            raise InputError(f"unlabeled_dir {place}: no such folder; wanted a folder of images, auto or null")
        for path in sorted(place.absolute().iterdir()):
            image = path.name.lower().endswith(IMAGE_EXTENSIONS) and not path.name.startswith(".") and path.is_file()
            if image and path.resolve() not in taken:
                found.append({"case": case_id(path), "image": str(path)})
    return found


def _require_distinct(cases: Sequence[Case]) -> None:
    first: dict[str, str] = {}
    problems = []
    for case in cases:
        earlier = first.setdefault(case["case"], case["image"])
        if earlier is not case["image"]:
            problems.append(
                f"case {case['case']} names two images ({earlier}, {case['image']}); wanted names that differ"
            )
    if problems:
        raise InputError(problems)


def _without_masks(case: Case, labels: Mapping[int, str], supervision: str, axis: int, problems: list[str]) -> Case:
    """Return a case with the presence bits that its label gives, and without the label where no mask is to be kept."""
    name = Path(case["label"]).name
    try:
        label, image = read_label(case["label"]), read_geometry(case["image"])
    except (Unreadable, OSError) as error:
        problems.append(f"{name}: {error}")
        return case
    wrong = check_mask(label.array, labels)
    wrong += compare_grids((label.array.shape, label.affine), image, Path(case["image"]).name)
    if wrong:
        problems += [f"{name}: {line}" for line in wrong]
        return case
    found = derive_slice_labels(label.array, ras_axes(label.affine).index(axis), labels)
    kept = {"case": case["case"], "image": case["image"]}
    if supervision == PRESENCE:
        return {**kept, "slice_labels": slice_labels_entry(found, labels)}
    shown = np.flatnonzero(found.bits.any(0))
    if not len(shown):  # nothing is on any slice, which bits say and no mask has to
        return {**kept, "slice_labels": slice_labels_entry(found, labels)}
    between = np.maximum.accumulate(found.bits, axis=1) & np.maximum.accumulate(found.bits[:, ::-1], axis=1)[:, ::-1]
    between[:, shown] = found.bits[:, shown]  # a slice with masks says what is not on it, too
    entry = slice_labels_entry(SliceLabels(found.axis, between), labels)
    return {**kept, "label": case["label"], "slice_labels": entry, "label_slices": shown.tolist()}
