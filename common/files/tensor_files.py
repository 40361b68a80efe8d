"""Files of tensors: read without executing them, loaded strictly, written whole."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError
from .atomic_write import write_atomic

# files that keep training state beside the weights nest the weights under one of these
NESTING_KEYS = ("model_state_dict", "model", "state_dict")


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, on the CPU.

    Reads .safetensors, and everything that `torch.load(weights_only=True)` reads; nothing in the file is executed.
    Weights nested under 'model_state_dict', 'model' or 'state_dict' are found.

    Raises:
        InputError: no such file; not readable as weights; something other than tensors where weights are expected.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such file; wanted a checkpoint (.pt, .pth or .safetensors)")
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a truncated, renamed or hostile file makes the readers raise
        found = _first_line(error)
        problem = (
            f"{path}: not readable as weights (found: {found}); wanted a file of tensors only, nothing was executed"
        )
        raise InputError(problem) from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in NESTING_KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: found {_describe(content)}, wanted named tensors")
    others = [f"{name}: {type(value).__name__}" for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise InputError(f"{path}: found entries that are no tensors ({listed(others)}), wanted named tensors only")
    return dict(content)


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Copy tensors into the model; every name and every shape has to fit.

    Modules that have a method `expect` are told first what comes: it may be more than one that was built knows.

    Raises:
        InputError: one line each for missing, unexpected and wrong-shaped tensors, naming `source`; no weight is
            changed.
    """
    for name, module in model.named_modules():
        if hasattr(module, "expect"):
            module.expect(tensors, f"{name}." if name else "")
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    shapes = [
        f"{name} found {tuple(tensors[name].shape)} wanted {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    problems = [
        f"{source}: {len(names)} {what} tensors: {listed(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong-shaped", shapes))
        if names
    ]
    if problems:
        raise InputError(problems)
    model.load_state_dict(dict(tensors))


def listed(names: list[str], limit: int = 12) -> str:
    """Return the first names and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _describe(content: object) -> str:
    return "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def atomic_save(content: Any, path: str | Path, previous: str | Path | None = None) -> None:
    """Write with torch.save so that a kill leaves the old file or the new, never half; InputError where it can't.

    Args:
        previous: where the file that is replaced is kept.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue(), previous)


def load_tensors(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """Read a file that holds tensors and plain values only; InputError for anything else, which is never executed."""
    try:
        return torch.load(Path(path).expanduser(), map_location=device, weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; wanted a checkpoint") from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"{path}: {reason}; wanted a file of tensors written by torch.save") from None
