"""A network's weights from model.pt: all of them, or one clear line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.handlers import CheckpointLoader
from torch import Tensor

from ..errors import InputError
from ..files.tensor_files import load_strictly, load_tensors

GRID = ("spatial_size", "pixdim", "label_values")


class StrictCheckpointLoader(CheckpointLoader):
    """MONAI's CheckpointLoader for one network, with every name and shape wanted; called, or attached to an engine.

    The file is a flat state dict, or one under the key that `load_dict` names, as CheckpointSaver writes them.

    Raises:
        InputError: when called: no such file, more than tensors in it, missing, unexpected or wrong-shaped tensors.
    """

    def __call__(self, engine: Engine | None = None) -> None:
        name, network = next(iter(self.load_dict.items()))
        content = _state_dict(load_tensors(self.load_path, self.map_location or "cpu"), name)
        load_strictly(network, content, self.load_path)


def require_model(path: str, names: Sequence[str] = GRID) -> None:
    """Look whether a model can be loaded before anything is built from it.

    Args:
        path: model.pt.
        names: tensors it must hold: those that describe its grid.

    Raises:
        InputError: missing, not a state dict, or without one of the names.
    """
    if not Path(path).expanduser().is_file():
        raise InputError(f"{path}: no such file; wanted a trained model: run train.json, or name one by --ckpt_path")
    content = _state_dict(load_tensors(path), "model")
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{path}: found no tensor {', '.join(missing)}; wanted a model.pt written by train.json")


def _state_dict(content: Any, name: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
        content = content[name]
    if not isinstance(content, Mapping):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}
