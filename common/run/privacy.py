"""What may leave the house of a data set in a manifest or report: hashes instead of files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..data.nnunet import first_channel, named_channels, with_lists
from ..errors import InputError
from ..volumes.names import channel_file, channel_number

# keys of a datalist that change nothing of what is learnt, or, as `reject`, are meant to be filled while a run pauses
NOT_LEARNT = ("reject", "validation", "test", "numTest", "name", "description", "reference", "licence", "release")


def hash_dataset(dataset_dir: str | os.PathLike, name: str = "dataset.json") -> dict[str, Any]:
    """Hash a data set without opening an image: its dataset.json, and name and size of every file listed in it.

    Returns:
        sha256 (hex), learnt (the same of what training learns from: without the cases to score, those whose labels
        somebody has rejected, and words for people), files (listed and found), bytes (their sum), cases (length of
        each list).

    Raises:
        InputError: dataset.json is missing or no JSON object.
    """
    root = Path(dataset_dir)
    path = root / name
    try:
        text = path.read_bytes()
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error}); a JSON object in MSD layout is wanted") from error
    content = with_lists(content, root, path.name)
    learnt = {key: value for key, value in content.items() if key not in NOT_LEARNT}
    digest, own = hashlib.sha256(text), hashlib.sha256(json.dumps(learnt, sort_keys=True).encode())
    channels = len(named_channels(content))
    known = set(_files(learnt, root, channels))
    count, size = 0, 0
    for listed in sorted(set(_files(content, root, channels))):
        try:
            found = os.stat(root / listed).st_size if (root / listed).is_file() else None
        except (OSError, ValueError):  # most texts of a datalist are no file names, some can't even be one
            found = None
        if found is not None:
            line = f"\n{listed}\t{found}".encode("utf-8", "surrogatepass")
            digest.update(line)
            own.update(line if listed in known else b"")
            count, size = count + 1, size + found
    cases = {key: len(entries) for key, entries in content.items() if isinstance(entries, list)}
    return {
        "sha256": digest.hexdigest(), "learnt": own.hexdigest(), "files": count, "bytes": size, "cases": cases
    }  # fmt: skip


def hash_cases(groups: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, Any]:
    """Hash lists of cases without opening an image: id of each, and name and size of its files; as `hash_dataset`."""
    digest, count, size, cases = hashlib.sha256(), 0, 0, {}
    for group, listed in groups.items():
        cases[group] = 0
        for case in sorted(listed, key=lambda case: case["case"]):
            cases[group] += 1
            digest.update(f"\n{group}\t{case['case']}".encode("utf-8", "surrogatepass"))
            for path in (Path(case[key]) for key in ("image", "label") if key in case):
                found = os.stat(path).st_size
                digest.update(f"\t{path.name}\t{found}".encode("utf-8", "surrogatepass"))
                count, size = count + 1, size + found
    return {"sha256": digest.hexdigest(), "files": count, "bytes": size, "cases": cases}


def _files(content: Any, root: Path, channels: int) -> Iterator[str]:
    """Yield all strings of a datalist, those that name a scan of several files as all of these."""
    for text in texts(content):
        first = first_channel(text, root)
        yield first
        if channels > 1 and channel_number(first) == 0:
            yield from (channel_file(Path(first), number).as_posix() for number in range(1, channels))


def texts(value: Any) -> Iterator[str]:
    """Yield all strings in lists and mappings of JSON, however deep; keys don't count."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from texts(entry)
