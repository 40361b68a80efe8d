"""Pseudo labels on disk: one file a case, with what judges it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..files.atomic_write import write_atomic
from ..tensors import plain


class PseudoLabelBank:
    """Soft labels of cases in a folder, one safetensors file (fp16) a case, each with how it is judged.

    Args:
        folder: made when the first label is saved; every file is written atomically.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def path(self, case: str) -> Path:
        return self.folder / f"{case}.safetensors"

    def __contains__(self, case: str) -> bool:
        return self.path(case).exists()

    def save(self, case: str, tensors: Mapping[str, Tensor], **judgement: float) -> None:
        """Keep tensors of a case (for a pseudo label: `label` [K, H, W, D]) and numbers that judge it."""
        content = {name: plain(t).detach().to("cpu").contiguous() for name, t in tensors.items()}
        write_atomic(self.path(case), save(content, metadata={"judgement": json.dumps(judgement)}))

    def load(self, case: str) -> dict[str, Tensor]:
        """Return the tensors of a case, float32."""
        with safe_open(self.path(case), framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}

    def judgement(self, case: str) -> dict[str, float]:
        """Return the numbers that were saved with a case."""
        with safe_open(self.path(case), framework="pt") as file:
            return json.loads(file.metadata()["judgement"])
