"""Segmentation metrics in mm on the native grid: per case and label, as a table, and as a handler of an evaluator."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import ignite.distributed as idist
import monai
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import decollate_batch
from monai.data.utils import affine_to_spacing
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.stats import wilcoxon

from .atomic_write import write_atomic
from .errors import InputError

METRICS = ("dice", "hd95", "assd")
EMPTY_RULE = (
    "label empty in truth and prediction: NaN, excluded from mean, sd, min and max, and counted; "
    "empty in one of the two: Dice 0, hd95 and assd = the diagonal of the volume in mm"
)


def case_metrics(
    pred: np.ndarray | torch.Tensor,
    label: np.ndarray | torch.Tensor,
    spacing: Sequence[float],
    label_values: Iterable[int],
) -> dict[int, dict[str, float]]:
    """Return Dice, 95th percentile Hausdorff and average symmetric surface distance (mm) of each foreground label.

    A label that is empty in both volumes gets NaN three times, to be excluded from means and counted. One that is
    empty in only one of them gets Dice 0 and, for both distances, the diagonal of the volume in mm, so that a miss
    never looks better than a bad hit. Everything else is MONAI's `compute_dice`, `compute_hausdorff_distance` and
    `compute_average_surface_distance` inside the bounding box of both masks, which leaves their results as they are.

    Args:
        pred, label: [H, W, D] label values, whole numbers of any dtype, on one grid.
        spacing: voxel size along each axis, mm.
        label_values: the foreground values to score; a 0 among them is left out.

    Raises:
        InputError: shapes that differ or aren't 3D, fractional values, a spacing that isn't three positive numbers.
    """
    pred, label = _whole_numbers(pred, "pred"), _whole_numbers(label, "label")
    spacing = [float(value) for value in spacing]
    problems = []
    if pred.shape != label.shape or pred.ndim != 3:
        problems.append(f"pred and label: found shapes {pred.shape} and {label.shape}, wanted one 3D shape")
    if len(spacing) != 3 or not all(math.isfinite(value) and value > 0 for value in spacing):
        problems.append(f"spacing: found {spacing}, wanted three positive numbers in mm")
    if problems:
        raise InputError(problems)
    diagonal = float(np.linalg.norm(np.multiply(label.shape, spacing)))
    return {
        int(value): _label_metrics(pred == value, label == value, spacing, diagonal)
        for value in label_values
        if value != 0
    }


def _whole_numbers(volume: np.ndarray | torch.Tensor, name: str) -> np.ndarray:
    array = volume.detach().cpu().numpy() if isinstance(volume, torch.Tensor) else np.asarray(volume)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or not np.array_equal(array, np.round(array)):
            raise InputError(f"{name}: found fractional or non-finite label values, wanted whole numbers")
        array = array.astype(np.int64)
    return array


def _label_metrics(pred: np.ndarray, label: np.ndarray, spacing: list[float], diagonal: float) -> dict[str, float]:
    if not pred.any() and not label.any():
        return dict.fromkeys(METRICS, math.nan)
    if not pred.any() or not label.any():
        return {"dice": 0.0, "hd95": diagonal, "assd": diagonal}
    box = _bounding_box(pred | label)
    y_pred, y = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (pred, label))  # [1,1,h,w,d]
    dice = compute_dice(y_pred, y, include_background=True)
    options = {"include_background": True, "spacing": spacing}
    hd95 = compute_hausdorff_distance(y_pred, y, percentile=95, **options)
    assd = compute_average_surface_distance(y_pred, y, symmetric=True, **options)
    return {"dice": dice.item(), "hd95": hd95.item(), "assd": assd.item()}


def _bounding_box(mask: np.ndarray, margin: int = 1) -> tuple[slice, ...]:
    """Return the slices of the smallest box around `mask`; the margin keeps the surface free of the box's border."""
    box = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(int(inside[0]) - margin, 0), int(inside[-1]) + 1 + margin))
    return tuple(box)


class MetricsTable:
    """Collect the metrics of cases, one row a case and label, and summarise, save and print them.

    Args:
        label_names: name of each label value; keys may be strings as in dataset.json; value 0 is left out.
    """

    def __init__(self, label_names: Mapping[int | str, str]) -> None:
        self.label_names = {int(value): str(name) for value, name in label_names.items() if int(value) != 0}
        self.rows: list[dict] = []
        self.skipped: list[str] = []

    def add(self, case: str, metrics: Mapping[int, Mapping[str, float]], **extra: float | Mapping[int, float]) -> None:
        """Add a case; `metrics` come from `case_metrics`, an `extra` column is a number or one for each label value."""
        for value, scores in metrics.items():
            row = {"case": case, "label": value, "name": self.label_names.get(value, str(value)), **scores}
            for column, number in extra.items():
                row[column] = number.get(value, math.nan) if isinstance(number, Mapping) else number
            self.rows.append(row)

    def skip(self, case: str) -> None:
        """Note a case that has no label to score it with."""
        self.skipped.append(case)

    @property
    def columns(self) -> list[str]:
        """The numeric columns: the metrics, then the extra columns in the order of their first appearance."""
        seen = dict.fromkeys(METRICS)
        for row in self.rows:
            seen.update(dict.fromkeys(row))
        return [column for column in seen if column not in ("case", "label", "name")]

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return {label name or "overall": {column: {mean, sd, min, max, count, excluded}}}.

        Per label the statistics run over cases. Overall they run over the cases' means over their labels; `excluded`
        counts the rows (case and label) that were NaN. sd is that of a sample (n - 1).
        """
        result = {}
        for value in dict.fromkeys([*self.label_names, *(row["label"] for row in self.rows)]):
            rows = [row for row in self.rows if row["label"] == value]
            result[self.label_names.get(value, str(value))] = {
                column: _statistics(row.get(column, math.nan) for row in rows) for column in self.columns
            }
        overall = {}
        for column in self.columns:
            cases: dict[str, list[float]] = {}
            for row in self.rows:
                cases.setdefault(row["case"], []).append(row.get(column, math.nan))
            scores = [_statistics(numbers) for numbers in cases.values()]
            excluded = sum(score["excluded"] for score in scores)
            overall[column] = {**_statistics(score["mean"] for score in scores), "excluded": excluded}
        return {**result, "overall": overall}

    def save_csv(self, path: str | os.PathLike) -> None:
        """Write the rows as CSV, atomically; NaN and missing numbers are empty fields."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["case", "label", "name", *self.columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if _is_nan(value) else value for key, value in row.items()} for row in self.rows)
        write_atomic(path, text.getvalue())

    def save_json(self, path: str | os.PathLike) -> None:
        """Write rows, summary, skipped cases, rule for empty labels and implementation, atomically; NaN is null."""
        content = {
            "implementation": f"monai {monai.__version__}",
            "unit": "Dice in [0, 1], distances in mm on the native grid",
            "rule": EMPTY_RULE,
            "labels": {str(value): name for value, name in self.label_names.items()},
            "summary": self.summary(),
            "skipped": self.skipped,
            "rows": self.rows,
        }
        write_atomic(path, json.dumps(_nan_to_none(content), indent=1, allow_nan=False) + "\n")

    def print(self, console: Console | None = None) -> None:
        """Print the summary as a small table: mean, and for Dice also sd and the worst case."""
        others = [column for column in self.columns if column != "dice"]
        titles = {"hd95": "HD95 mm", "assd": "ASSD mm"}
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # narrow: a row should fit on 80 columns
        table.add_column("label")
        for title in ["Dice", "sd", "min", *(titles.get(name, name.replace("_", " ")) for name in others), "excluded"]:
            table.add_column(title, justify="right")
        for name, scores in self.summary().items():
            cells = [_text(scores["dice"][key], 3) for key in ("mean", "sd", "min")]
            cells += [_text(scores[column]["mean"], 3 if "dice" in column else 2) for column in others]
            table.add_row(name, *cells, str(scores["dice"]["excluded"]), style="bold" if name == "overall" else None)
        console = console or Console()
        console.print(table)
        if self.skipped:
            console.print(f"not scored, for want of a label: {len(self.skipped)} (the first: {self.skipped[0]})")


def _statistics(numbers: Iterable[float]) -> dict[str, float]:
    every = np.array(list(numbers), dtype=float)
    kept = every[~np.isnan(every)]
    values = {"mean": math.nan, "sd": math.nan, "min": math.nan, "max": math.nan}
    if kept.size:
        values.update(mean=float(kept.mean()), min=float(kept.min()), max=float(kept.max()))
    if kept.size > 1:
        values["sd"] = float(kept.std(ddof=1))
    return {**values, "count": int(kept.size), "excluded": int(every.size - kept.size)}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _nan_to_none(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(item) for item in value]
    return None if _is_nan(value) else value


def _text(number: float, digits: int) -> str:
    return "-" if math.isnan(number) else f"{number:.{digits}f}"


class NativeGridMetrics:
    """Score each case of an evaluator on its native grid; write metrics.csv and metrics.json, print the table.

    After each iteration it reads `engine.state.output`, the decollated list of dicts: `pred` and `label` are
    [1, H, W, D] label values on one grid, MetaTensors (spacing from their affine). A case's id is its key "case",
    else the name of its file. A case without the label key (or with None there) is skipped and counted. On completion
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
        label_names: Mapping[int | str, str],
        pred_key: str = "pred",
        label_key: str = "label",
        case_key: str = "case",
        extra_columns: Callable[[dict], dict] | None = None,
        print_table: bool = True,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.table = MetricsTable(label_names)
        self.pred_key, self.label_key, self.case_key = pred_key, label_key, case_key
        self.extra_columns = extra_columns
        self.print_table = print_table
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
        cases = self._cases
        if idist.get_world_size() > 1:
            gathered: list = [None] * idist.get_world_size()
            torch.distributed.all_gather_object(gathered, cases)
            cases = [case for rank in gathered for case in rank]
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


def wilcoxon_paired(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Compare paired scores with Wilcoxon's signed-rank test (scipy, two-sided); pairs with a NaN are left out.

    Returns:
        mean_difference (of a - b), wins (pairs with a > b), n (pairs compared), p (1 where no pair differs).

    Raises:
        InputError: a and b differ in length.
    """
    if len(a) != len(b):
        raise InputError(f"wilcoxon_paired: found {len(a)} and {len(b)} scores, wanted pairs")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    difference = difference[~np.isnan(difference)]
    p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    mean = float(difference.mean()) if difference.size else math.nan
    return {"mean_difference": mean, "wins": int((difference > 0).sum()), "n": int(difference.size), "p": p}
