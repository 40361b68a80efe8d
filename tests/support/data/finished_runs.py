"""Output folders of trainings that never ran: what run.json and metrics.json say, for tools that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_run(folder: Path, labels: int | None, dice: Mapping[str, Sequence[float | None]], **told: Any) -> Path:
    """Write what a finished run has left and return its folder.

    Args:
        labels: how many volumes were labelled; None: the run doesn't say.
        dice: of each label by name, one for each case.
        told: seed, bundle, learnt (hash of the data), cases (names), epochs, id.
    """
    folder.mkdir(parents=True)
    seed = told.get("seed", 0)
    results = {} if labels is None else {"labeled": labels, "unlabeled": 20 - labels}
    if "bundle" in told:
        results["bundle"] = told["bundle"]
    run = {
        "id": told.get("id", f"{labels}-{seed}"),
        "seed": seed,
        "dataset": {"sha256": "whole", "learnt": told.get("learnt", "abc")},
        "config": {
            "run": {"output_dir": folder.name},
            "cohort": {"num_labeled": labels, "seed": seed, "max_voxels": 98304},
            "train": {"max_epochs": told.get("epochs", 10)},
        },
        "results": results,
    }
    cases = told.get("cases") or [f"case_{number}" for number in range(len(next(iter(dice.values()))))]
    rows = [
        {"case": case, "label": value, "name": name, "dice": score}
        for value, (name, scores) in enumerate(dice.items(), start=1)
        for case, score in zip(cases, scores, strict=True)
    ]
    metrics = {"labels": {str(value): name for value, name in enumerate(dice, start=1)}, "rows": rows}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder
