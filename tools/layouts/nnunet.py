"""nnU-Net's raw data sets: what `common.data.nnunet` reads of one as it lies, and its ignore label besides."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.data.datalist import Case, read_datalist
from common.data.nnunet import named_channels
from common.errors import InputError
from common.files.json_file import read_json
from common.volumes.label import read_label
from common.volumes.names import channel_file
from common.volumes.volume import Unreadable

from .dataset import WHOLE_FILES, Published, Scan

IGNORE = "ignore"
FILE = "dataset.json"


def read_nnunet(source: Path, unlabel_ignored: bool = False) -> Published:
    """Read imagesTr, labelsTr, imagesTs, labelsTs and imagesUn of a data set of version 2, or the lists of version 1.

    Where an ignore label is declared, every mask is opened: one that uses it leaves voxels open, as no mask here can.

    Args:
        source: folder of the data set.
        unlabel_ignored: make a case whose mask has ignored voxels an unlabelled one (as a test case it loses its mask);
            else it is an error.

    Raises:
        InputError: what `read_datalist` raises; an ignore label that isn't the highest; masks with ignored voxels;
            files whose voxels lie in another file.
    """
    content = read_json(source / FILE, "nnU-Net's dataset.json")
    labels = content.get("labels") if isinstance(content, Mapping) else None
    ignored = None
    if isinstance(labels, Mapping) and IGNORE in labels:
        ignored = _highest(labels)
        content = {**content, "labels": {name: value for name, value in labels.items() if name != IGNORE}}
    with tempfile.TemporaryDirectory() as folder:  # what is read by all rules of a datalist
        Path(folder, FILE).write_text(json.dumps(content), encoding="utf-8")
        datalist = read_datalist(source, Path(folder, FILE))
    channels = named_channels(content)
    groups = {"training": datalist.training, "test": datalist.test}
    if ignored is not None:
        groups = {name: _without_ignored(cases, ignored, unlabel_ignored) for name, cases in groups.items()}
    training, test = ([_scan(case, len(channels)) for case in groups[name]] for name in groups)
    others = [_scan(case, len(channels)) for case in datalist.unlabeled]
    if datalist.validation:
        raise InputError(f"{FILE}: has a list validation, which nnU-Net doesn't know; wanted that data set as it is")
    _require_whole_files([*training, *test, *others])
    if not any(scan.label for scan in training):
        raise InputError(f"{source}: every mask has ignored voxels; wanted a case whose mask has none")
    return Published(
        about={key: content[key] for key in ("name", "description", "reference", "licence") if _is_text(content, key)},
        labels=datalist.labels,
        scans=[scan for scan in training if scan.label],
        test=test or None,
        unlabeled=(*(scan for scan in training if scan.label is None), *others),
        modality=tuple(channels) or ("",),
    )


def _highest(labels: Mapping[str, Any]) -> int:
    """Return the ignore label, which is above all others."""
    ignored = labels[IGNORE]
    others = [value for name, value in labels.items() if name != IGNORE and isinstance(value, int)]
    if not isinstance(ignored, int) or any(value >= ignored for value in others):
        raise InputError(f"{FILE}: labels has {IGNORE} {ignored}; wanted the highest value, as nnU-Net does")
    return ignored


def _without_ignored(cases: Iterable[Case], ignored: int, unlabel: bool) -> list[Case]:
    """Return the cases, those whose mask has ignored voxels without it."""
    kept, problems = [], []
    for case in cases:
        if "label" in case:
            name = f"{Path(case['label']).parent.name}/{Path(case['label']).name}"
            try:
                open_voxels = int((read_label(case["label"]).array == ignored).sum())
            except (Unreadable, OSError) as error:
                problems.append(f"{name}: {error}")
                continue
            if open_voxels and not unlabel:
                problems.append(
                    f"{name}: {open_voxels} voxels have the ignore label {ignored}; wanted none, since a mask here "
                    "tells of every voxel, or --ignored unlabeled, by which the scan counts as unlabelled"
                )
            if open_voxels:
                case = {key: value for key, value in case.items() if key != "label"}
        kept.append(case)
    if problems:
        raise InputError(problems)
    return kept


def _scan(case: Case, channels: int) -> Scan:
    image, label = Path(case["image"]), case.get("label")
    files = channels if channels > 1 and channel_file(image, 0) == image else 1  # one file may hold all of them
    return Scan(case["case"], image, None if label is None else Path(label), files)


def _require_whole_files(scans: Iterable[Scan]) -> None:
    files = [file for scan in scans for file in (scan.image, scan.label) if file is not None]
    apart = [file for file in files if not file.name.lower().endswith(WHOLE_FILES)]
    if apart:
        raise InputError(f"{apart[0].name}: may have its voxels in another file; wanted {', '.join(WHOLE_FILES)}")


def _is_text(content: Mapping[str, Any], key: str) -> bool:
    return isinstance(content.get(key), str)
