"""Datalists written to a folder, with files that are never opened, for the tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data.datalist import read_datalist
from common.errors import InputError

LABELS = {"0": "background", "1": "liver"}


def make_dataset(folder: Path, content: dict | str, files: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"never opened here")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "dataset.json").write_text(text, encoding="utf-8")
    return folder


def pair(name: str) -> dict[str, str]:
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}


def files_of(*names: str) -> tuple[str, ...]:
    return tuple(f"{kind}Tr/{name}.nii.gz" for name in names for kind in ("images", "labels"))


def problems_of(folder: Path, content: dict | str, files: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_datalist(make_dataset(folder, content, files))
    return caught.value.problems
