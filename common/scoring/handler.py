"""The metrics as a handler of an evaluator, on the native grid."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import decollate_batch
from monai.data.utils import affine_to_spacing

from ..errors import InputError
from ..launch.words import truth
from .metrics import case_metrics
from .table import MetricsTable


class NativeGridMetrics:
    """Score each case of an evaluator on its native grid; write metrics.csv and metrics.json, print the table.

    After each iteration it reads `engine.state.output`, the decollated list of dicts: `pred` and `label` are
    [1, H, W, D] label values on one grid, MetaTensors (spacing from their affine). A case's id is its key "case",
    else the name of its file. A case without the label key (or with None there) is skipped and counted. Of one with
    `known_labels`, values, the others are not scored: its mask doesn't tell about them. On completion
    the rows of all ranks are gathered, a case that a sampler repeated to even out the ranks counts once, rank 0
    writes, and every rank gets `engine.state.metrics["val_mean_dice"]` (NaN when no case has a label).

    Args:
        output_dir: folder of metrics.csv and metrics.json.
        label_names: name of each label value, as for `MetricsTable`.
        extra_columns: from a case's dict to further columns (a number, or one for each label value), or None.

    Raises:
        InputError: (while running) pred and label of a case differ in shape or affine; see also `case_metrics`.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        label_names: Mapping[int, str] | Mapping[str, str],
        pred_key: str = "pred",
        label_key: str = "label",
        case_key: str = "case",
        extra_columns: Callable[[dict], dict] | None = None,
        print_table: bool = True,
    ) -> None:
        self.output_dir = Path(output_dir).expanduser()
        self.table = MetricsTable(label_names)
        self.pred_key, self.label_key, self.case_key = pred_key, label_key, case_key
        self.extra_columns = extra_columns
        self.print_table = truth("print_table", print_table)
        self._cases: list[tuple[str, str, dict | None, dict]] = []  # file or id, id, metrics (None: skipped), extra

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI evaluator (or any ignite engine whose output is a list of dicts)."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._cases = []

    def _score(self, engine: Engine) -> None:
        output, batch = engine.state.output, engine.state.batch
        output = output if isinstance(output, list) else decollate_batch(output)
        # what the network didn't touch, such as the case's id, is in the batch only
        inputs = batch if isinstance(batch, list) and len(batch) == len(output) else [{}] * len(output)
        for given, scored in zip(inputs, output, strict=True):
            item = {**given, **scored}
            source, case = self._identify(item)
            metrics, extra = None, {}
            if item.get(self.label_key) is not None:
                metrics = self._case_metrics(case, item[self.pred_key], item[self.label_key])
                if item.get("known_labels") is not None:
                    told = {int(value) for value in item["known_labels"]}
                    metrics = {value: scores for value, scores in metrics.items() if value in told}
                extra = dict(self.extra_columns(item)) if self.extra_columns else {}
            self._cases.append((source, case, metrics, extra))

    def _identify(self, item: dict) -> tuple[str, str]:
        """Return (what tells the case from all others, the id it is shown by)."""
        metas = [getattr(item.get(key), "meta", {}) for key in ("image", self.label_key, self.pred_key)]
        files = [str(meta["filename_or_obj"]) for meta in metas if meta.get("filename_or_obj")]
        case = item.get(self.case_key)
        if case is None:
            name = Path(files[0]).name if files else f"case_{idist.get_rank()}_{len(self._cases)}"
            case = name.removesuffix(".gz").removesuffix(".nii")
        return (files[0] if files else str(case)), str(case)

    def _case_metrics(self, case: str, pred: torch.Tensor, label: torch.Tensor) -> dict[int, dict[str, float]]:
        affines = [np.asarray(volume.affine) for volume in (label, pred) if hasattr(volume, "affine")]
        problems = []
        if tuple(pred.shape) != tuple(label.shape) or pred.ndim != 4 or pred.shape[0] != 1:
            shapes = f"{tuple(pred.shape)} and {tuple(label.shape)}"
            problems.append(f"case {case}: found pred and label of shapes {shapes}, wanted one shape [1, H, W, D]")
        if not affines:
            problems.append(f"case {case}: found neither pred nor label with an affine, wanted a MetaTensor")
        elif not np.allclose(affines[0], affines[-1], atol=1e-2):
            problems.append(f"case {case}: found pred and label with different affines, wanted both on the native grid")
        if problems:
            raise InputError(problems)
        return case_metrics(pred[0], label[0], affine_to_spacing(affines[0], r=3), self.table.label_names)

    def _finish(self, engine: Engine) -> None:
        cases = [case for rank in idist.all_gather(self._cases) for case in rank]
        table = MetricsTable(self.table.label_names)
        for _, case, metrics, extra in sorted({case[0]: case for case in cases}.values(), key=lambda case: case[1]):
            if metrics is None:
                table.skip(case)
            else:
                table.add(case, metrics, **extra)
        self.table = table
        engine.state.metrics["val_mean_dice"] = table.summary()["overall"]["dice"]["mean"]
        if idist.get_rank() == 0:
            table.save_csv(self.output_dir / "metrics.csv")
            table.save_json(self.output_dir / "metrics.json")
            if self.print_table:
                table.print()
