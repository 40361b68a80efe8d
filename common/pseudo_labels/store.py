"""Pseudo labels on disk: one file a case, with what judges it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..files.atomic_write import write_atomic
from ..tensors import plain


class PseudoLabelBank:
    """Soft labels of cases in a folder, one safetensors file (fp16) a case, each with how it is judged.

    Args:
        folder: made when the first label is saved; every file is written atomically.
        run: id of the run; stands in every file. Files of another one don't count as there, those without any do.
    """

    def __init__(self, folder: str | Path, run: str | None = None) -> None:
        self.folder, self.run = Path(folder).expanduser(), run

    def path(self, case: str) -> Path:
        return self.folder / f"{case}.safetensors"

    def __contains__(self, case: str) -> bool:
        return self.path(case).exists() and not self.is_foreign(case)

    def is_foreign(self, case: str) -> bool:
        """Return whether the file of a case, which is there, is of another run, or damaged."""
        try:
            with safe_open(self.path(case), framework="pt") as file:
                found = (file.metadata() or {}).get("run")
        except (SafetensorError, OSError):
            return True
        return self.run is not None and found not in (None, self.run)

    def save(self, case: str, tensors: Mapping[str, Tensor], **judgement: Any) -> None:
        """Keep tensors of a case (for a pseudo label: `label` [K, H, W, D]) and numbers that judge it."""
        content = {name: plain(t).detach().to("cpu").contiguous() for name, t in tensors.items()}
        said = {"judgement": json.dumps(judgement)} | ({} if self.run is None else {"run": self.run})
        write_atomic(self.path(case), save(content, metadata=said))

    def load(self, case: str) -> dict[str, Tensor]:
        """Return the tensors of a case, float32."""
        with safe_open(self.path(case), framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}

    def judgement(self, case: str) -> dict[str, Any]:
        """Return the numbers that were saved with a case."""
        with safe_open(self.path(case), framework="pt") as file:
            return json.loads(file.metadata()["judgement"])
