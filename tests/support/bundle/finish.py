"""The end of a run, without the run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn


def run_finish(kind: type, plan: Any, table: Any, folder: Path, deployed: nn.Module | None = None, **asked: Any) -> Any:
    """Return the Finish of a bundle, run on a table of scores that is there already; `asked` of its evaluator."""
    if not hasattr(plan, "measure"):
        plan.measure = getattr(plan.run, "measure", plan.run.manifest.measure)
    finish = kind(
        plan=plan,
        network=nn.Linear(2, 2) if deployed is None else deployed,
        ckpt_path=str(folder / "model.pt"),
        evaluator=SimpleNamespace(run=lambda: None, **asked),
        metrics=SimpleNamespace(table=table),
        gallery=SimpleNamespace(pictures={}, oddities={}, maps={"truth": "label"}),
    )
    finish.run()
    return finish
