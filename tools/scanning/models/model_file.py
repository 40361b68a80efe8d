"""Look into model files: which names do their pickles hold, and does an archive hold more than a model?"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import IO

from ..findings import AllowList, Finding
from ..tree import judge_member
from .pickles import pickled_names
from .torchscript import harmful_operators

ARCHIVES = (".pt", ".pth", ".ts", ".ckpt")
LARGEST_PICKLE = 64 << 20  # bytes; the names of tensors, not their numbers
_WEIGHTS = re.compile(
    r"data\.pkl|data/\d+|(\.data/)?version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment"
)
_TORCHSCRIPT = re.compile(r"code/[\w./-]+\.py(\.debug_pkl)?|constants\.pkl|constants/\d+|extra/[\w.-]+")


def scan_model(
    path: str, file: IO[bytes], allow: AllowList, scan_config: Callable[[str, str], Iterator[Finding]]
) -> Iterator[Finding]:
    """Yield the names in a model file of torch, TorchScript or safetensors; the tensors themselves are passed over."""
    if path.lower().endswith(".safetensors"):
        yield _judge_safetensors(path, file)
    elif file.read(4) == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(file) as archive:
                yield from _scan_archive(path, archive, allow, scan_config)
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, RuntimeError) as error:
            yield Finding("model", path, type(error).__name__, "can't be read as a model")
    else:
        file.seek(0)
        for name in pickled_names(file)[0]:
            yield Finding("pickle", path, name, _judge_name(name, allow, False))
        yield Finding("model", path, "bare pickle", "not in torch's zip format: several pickles one after the other")


def _scan_archive(
    path: str, archive: zipfile.ZipFile, allow: AllowList, scan_config: Callable[[str, str], Iterator[Finding]]
) -> Iterator[Finding]:
    members = archive.infolist()
    names = [member.filename.partition("/")[2] for member in members]
    scripted = "constants.pkl" in names
    if "data.pkl" not in names:
        yield Finding("model", path, "archive", "not in torch's zip format: no data.pkl")
    if len(set(names)) < len(names) or len({member.filename.partition("/")[0] for member in members}) > 1:
        yield Finding("model", path, "archive", "two readers would see two models: names that are there twice")
    if (members and min(member.header_offset for member in members) > 0) or archive.comment:
        yield Finding("model", path, "archive", "bytes before or after the archive")
    for name, member in zip(names, members, strict=True):
        where = f"{path}!{name}"
        if problems := judge_member(member):
            yield Finding("model", where, member.filename, "; ".join(problems))
        elif not (_WEIGHTS.fullmatch(name) or (scripted and _TORCHSCRIPT.fullmatch(name))):
            yield Finding("model", where, name, "no part of a model")
        elif name.endswith(("pkl", ".py")) or name.startswith("extra/"):
            if member.file_size > LARGEST_PICKLE:
                yield Finding("model", where, f"{member.file_size} bytes", "too large to be looked into")
                continue
            content = archive.read(member)
            if name.endswith("pkl"):
                yield from _scan_pickle(where, content, allow, scripted)
            elif name.endswith(".py"):
                for found in harmful_operators(content):
                    yield Finding("model", where, found, "TorchScript that reads or writes files, or needs a library")
            elif name.endswith((".json", ".yaml", ".yml")):
                yield from scan_config(where, content.decode("utf-8", "replace"))
            else:
                yield Finding("model", where, name, "an extra file that isn't JSON")


def _scan_pickle(where: str, content: bytes, allow: AllowList, scripted: bool) -> Iterator[Finding]:
    names, problems = pickled_names(content)
    for name in names:
        yield Finding("pickle", where, name, _judge_name(name, allow, scripted))
    for problem in problems:
        yield Finding("pickle", where, problem, "what it would call can't be told")


def _judge_name(name: str, allow: AllowList, scripted: bool) -> str:
    if scripted and name.startswith("__torch__."):  # a class compiled into the same archive
        return ""
    return "" if name in allow.pickles else "the name isn't in the allow-list"


def _judge_safetensors(path: str, file: IO[bytes]) -> Finding:
    start = file.read(8)
    length = int.from_bytes(start, "little")
    try:
        sound = len(start) == 8 and length < LARGEST_PICKLE and isinstance(json.loads(file.read(length)), dict)
    except (ValueError, RecursionError):
        sound = False
    return Finding("model", path, "safetensors", "" if sound else "no header of safetensors")
