"""What a datalist says of the channels of its scans, and which of them hold absolute numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..volumes.dicom.headers import read_modality

KEYS = ("channel_names", "modality")  # of nnU-Net v2; of the Decathlon and nnU-Net v1
CT = ("ct", "cta", "cect", "ncct")


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
