"""The trained few tensors of a large frozen network as a small file beside its base weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ...errors import InputError
from ...files.atomic_write import write_atomic
from ...files.tensor_files import listed, load_strictly, read_tensors

BASE_KEYS = ("sam", "sha256", "image_size")
# one key for all: safetensors writes several in random order, and equal content is to give equal files
_KEY = "trainable_tensors"


def save_trainable(path: str | Path, module: nn.Module, names: Iterable[str], base: Mapping[str, Any]) -> None:
    """Write the named tensors of `module`, and only they, atomically as .safetensors.

    Its metadata says which base weights they belong to, and keeps name and fingerprint of every other tensor of the
    module's state, so that `load_trainable` knows these weights whatever file they come from.

    Args:
        names: parameters or buffers, as in `module.state_dict()`: all that differs from the module as it is built.
        base: "sam", "sha256" (of the file of base weights) and "image_size" (pixels); more keys are kept, JSON values.

    Raises:
        InputError: another suffix, a name the module lacks, no names, a key of `base` missing, not writable.
    """
    own, names = module.state_dict(), list(dict.fromkeys(names))
    unknown = [name for name in names if name not in own]
    lacking = [key for key in BASE_KEYS if key not in base]
    problems = []
    if Path(path).suffix != ".safetensors":
        problems.append(f"{path}: found suffix {Path(path).suffix!r}, wanted .safetensors")
    if not names:
        problems.append(f"{path}: found no names of tensors, wanted those that were trained")
    if unknown:
        problems.append(
            f"{path}: found no tensor {listed(unknown, 6)} in {type(module).__name__}, wanted names of its state"
        )
    if lacking:
        problems.append(f"{path}: base lacks {', '.join(lacking)}, wanted {', '.join(BASE_KEYS)}")
    if problems:
        raise InputError(problems)
    frozen = {name: _fingerprint(value) for name, value in own.items() if name not in names}
    said = json.dumps({"base": dict(base), "frozen": frozen}, sort_keys=True)
    write_atomic(path, save({name: _plain(own[name]).clone() for name in names}, metadata={_KEY: said}))


def load_trainable(path: str | Path, module: nn.Module, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Copy the tensors of a file of `save_trainable` into `module`, which holds its base weights, and return its base.

    Every name and shape has to fit, and every tensor that is not in the file must be, bit for bit, what it was beside
    the module that was saved.

    Args:
        base: what the file's base has to be, as far as given: another image size is not to be seen from the tensors.

    Raises:
        InputError: no such file or another kind of file; names, shapes, the base or its weights differ, each named;
            the module is unchanged.
    """
    tensors = read_tensors(path)
    found, frozen = _description(path)
    problems = [
        f"{path}: trained beside {key} {found.get(key)!r}, wanted {value!r}"
        for key, value in (base or {}).items()
        if found.get(key) != value
    ]
    own = module.state_dict()
    other = [name for name, mark in frozen.items() if name in own and _fingerprint(own[name]) != mark]
    if other:
        wanted = f"{found.get('sam')} (sha256 {found.get('sha256')}, image size {found.get('image_size')})"
        problems.append(
            f"{path}: {len(other)} of {len(frozen)} frozen tensors are not those it was trained beside: "
            f"{listed(other, 6)}; wanted the weights of {wanted}"
        )
    if problems:
        raise InputError(problems)
    # a frozen tensor that the module has no place for stands for itself, to be named as unexpected
    rest = {name: own.get(name, torch.empty(0)) for name in frozen}
    load_strictly(module, {**rest, **tensors}, path)
    return found


def _description(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return base and fingerprints of the frozen tensors from the file's metadata."""
    try:
        with safe_open(str(path), framework="pt") as file:
            said = json.loads((file.metadata() or {})[_KEY])
        base, frozen = said["base"], said["frozen"]
        if isinstance(base, dict) and isinstance(frozen, dict):
            return base, frozen
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path}: found no description of base weights, wanted a file of trained tensors beside a base")


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().as_subclass(Tensor).cpu().contiguous()


def _fingerprint(tensor: Tensor) -> str:
    plain = _plain(tensor)
    digest = hashlib.sha256(f"{plain.dtype}|{tuple(plain.shape)}|".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
