from __future__ import annotations

import csv
import io
import json
import math

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
import torch
import torch.multiprocessing
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
from rich.console import Console

from common.errors import InputError
from common.scoring.handler import NativeGridMetrics
from common.scoring.metrics import case_metrics, percent
from common.scoring.table import MetricsTable

SPACING = (1.0, 2.0, 3.0)
NAMES = {"0": "background", "1": "liver", "2": "spleen"}


def cube(start, stop, shape=(20, 18, 16), value=1):
    volume = np.zeros(shape, np.uint8)
    volume[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = value
    return volume


def random_masks(seed, shape=(14, 12, 10)):
    random = np.random.default_rng(seed)
    return [(random.random(shape) < 0.3).astype(np.int64) + (random.random(shape) < 0.1) for _ in range(2)]


def table_of(*cases):
    table = MetricsTable(NAMES)
    for case, dice in cases:
        table.add(case, {v: {"dice": d, "hd95": 2 * d, "assd": d} for v, d in dice.items()})
    return table


def surface_points(volume):
    """Return, in mm, the voxels of a mask that have one of their six neighbours outside it."""
    padded = np.pad(volume.astype(bool), 1)
    inside = np.all([np.roll(padded, step, axis) for axis in range(3) for step in (-1, 1)], axis=0)
    return (np.argwhere(padded & ~inside) - 1) * np.array(SPACING)


def test_shifted_cube_by_hand():
    # a 6x6x6 cube moved one voxel of 3 mm along the last axis: 5 of 6 layers overlap
    pred, label = cube((5, 5, 6), (11, 11, 12)), cube((5, 5, 5), (11, 11, 11))
    metrics = case_metrics(pred, label, SPACING, [1])[1]
    assert metrics["dice"] == pytest.approx(5 / 6)
    assert metrics["hd95"] == pytest.approx(3.0)  # the 36 voxels of the face that moved are more than 5 % of 152
    distances = np.linalg.norm(surface_points(pred)[:, None] - surface_points(label)[None], axis=-1)  # all pairs
    assert distances.shape == (152, 152)
    both_ways = np.concatenate([distances.min(0), distances.min(1)])
    assert metrics["assd"] == pytest.approx(both_ways.mean(), rel=1e-5)


def test_single_voxels_by_hand():
    pred, label = cube((2, 3, 4), (3, 4, 5)), cube((5, 7, 6), (6, 8, 7))
    distance = math.sqrt(3**2 + (4 * 2) ** 2 + (2 * 3) ** 2)
    metrics = case_metrics(pred, label, SPACING, [1])[1]
    assert metrics == {"dice": 0.0, "hd95": pytest.approx(distance), "assd": pytest.approx(distance)}


def test_nested_cubes_by_hand():
    # 2x2x2 inside 4x4x4 at 2 mm: each inner voxel is 2 mm from the outer surface
    pred, label = cube((4, 4, 4), (8, 8, 8)), cube((5, 5, 5), (7, 7, 7))
    metrics = case_metrics(pred, label, (2, 2, 2), [1])[1]
    assert metrics["dice"] == pytest.approx(2 * 8 / (64 + 8))
    outward = [2.0] * 24 + [2 * math.sqrt(2)] * 24 + [2 * math.sqrt(3)] * 8  # faces, edges, corners of the outer cube
    assert metrics["assd"] == pytest.approx((sum(outward) + 8 * 2.0) / (56 + 8), rel=1e-5)
    assert metrics["hd95"] == pytest.approx(np.percentile(outward, 95), rel=1e-5)


def test_empty_labels_follow_the_rule():
    some, nothing = cube((1, 1, 1), (4, 4, 4)), cube((0, 0, 0), (0, 0, 0))
    diagonal = math.sqrt(20**2 + 36**2 + 48**2)
    assert all(math.isnan(value) for value in case_metrics(nothing, nothing, SPACING, [1])[1].values())
    for pred, label in ((some, nothing), (nothing, some)):
        assert case_metrics(pred, label, SPACING, [1])[1] == {"dice": 0.0, "hd95": diagonal, "assd": diagonal}


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_monai_on_the_whole_volume(seed):
    pred, label = random_masks(seed)
    padded = [np.pad(volume, ((3, 9), (0, 7), (5, 0))) for volume in (pred, label)]  # touches two borders
    metrics = case_metrics(*padded, SPACING, [0, 1, 2])
    assert list(metrics) == [1, 2]
    for value in (1, 2):
        y_pred, y = (torch.from_numpy(volume == value)[None, None] for volume in padded)
        options = {"include_background": True, "spacing": SPACING}
        assert metrics[value] == {
            "dice": compute_dice(y_pred, y).item(),
            "hd95": compute_hausdorff_distance(y_pred, y, percentile=95, **options).item(),
            "assd": compute_average_surface_distance(y_pred, y, symmetric=True, **options).item(),
        }


def test_numpy_torch_and_whole_floats_score_alike():
    pred, label = random_masks(2)
    as_float = torch.from_numpy(pred).float(), MetaTensor(torch.from_numpy(label).float())
    assert case_metrics(*as_float, SPACING, [1, 2]) == case_metrics(pred, label, SPACING, [1, 2])


@pytest.mark.parametrize(
    ("pred", "label", "spacing", "message"),
    [
        (np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), SPACING, r"found shapes \(4, 4, 4\) and \(4, 4, 5\)"),
        (np.zeros((4, 4)), np.zeros((4, 4)), SPACING, "wanted one 3D shape"),
        (np.zeros((4, 4, 4)), np.zeros((4, 4, 4)), (1, 1, 0), "spacing: found"),
        (np.full((4, 4, 4), 0.5), np.zeros((4, 4, 4)), SPACING, "pred: found fractional"),
        (np.zeros((4, 4, 4)), np.full((4, 4, 4), np.nan), SPACING, "label: found fractional or non-finite"),
    ],
)
def test_bad_volumes_are_named(pred, label, spacing, message):
    with pytest.raises(InputError, match=message):
        case_metrics(pred, label, spacing, [1])


def test_summary_excludes_and_counts_nan():
    table = table_of(("a", {1: 0.8, 2: 0.6}), ("b", {1: 0.6, 2: math.nan}))
    summary = table.summary()
    assert list(summary) == ["liver", "spleen", "overall"]
    assert summary["liver"]["dice"]["mean"] == pytest.approx(0.7)
    assert summary["liver"]["dice"]["sd"] == pytest.approx(math.sqrt(0.02))
    assert summary["spleen"]["dice"]["count"] == 1 and summary["spleen"]["dice"]["excluded"] == 1
    assert math.isnan(summary["spleen"]["dice"]["sd"])
    overall = summary["overall"]["dice"]
    assert (overall["mean"], overall["min"]) == (pytest.approx((0.7 + 0.6) / 2), pytest.approx(0.6))
    assert overall["count"] == 2 and overall["excluded"] == 1
    assert summary["liver"]["hd95"]["max"] == pytest.approx(1.6)


def test_summary_has_the_share_of_cases_under_the_limit_of_every_dice():
    table = table_of(("a", {1: 0.9, 2: 0.6}), ("b", {1: 0.69, 2: math.nan}), ("c", {1: 0.7, 2: 0.3}))
    for row in table.rows:
        row["other dice"] = 0.1 if row["case"] == "a" else 0.7
    summary = table.summary()
    assert summary["liver"]["dice"]["under"] == pytest.approx(1 / 3)  # .70 itself isn't under it
    assert summary["spleen"]["dice"]["under"] == 1  # of the two cases that have one
    assert summary["overall"]["dice"]["under"] == pytest.approx(2 / 3)  # means .75, .69, .50
    assert summary["overall"]["other dice"]["under"] == pytest.approx(1 / 3)
    assert "under" not in summary["liver"]["hd95"]
    assert math.isnan(table_of(("a", {1: math.nan})).summary()["liver"]["dice"]["under"])


@pytest.mark.parametrize(
    ("share", "said"), [(0.125, "12 %"), (0.001, "<1 %"), (0, "0 %"), (1, "100 %"), (math.nan, "–")]
)
def test_a_share_of_few_cases_is_never_said_to_be_none(share, said):
    assert percent(share) == said


def test_files_hold_the_rows(tmp_path):
    table = table_of(("a", {1: 0.8, 2: math.nan}))
    table.add("b", {1: {"dice": 0.5, "hd95": 1.0, "assd": 1.0}}, folding=0.25, propagated_dice={1: 0.4})
    table.skip("c")
    table.save_csv(tmp_path / "out" / "metrics.csv")
    table.save_json(tmp_path / "out" / "metrics.json")
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert [row["dice"] for row in rows] == ["0.8", "", "0.5"]
    assert rows[2]["folding"] == "0.25" and rows[2]["propagated_dice"] == "0.4" and rows[0]["folding"] == ""
    content = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert content["rows"][1]["dice"] is None
    assert content["implementation"].startswith("monai ") and "diagonal" in content["rule"]
    assert content["under"] == "share of the cases whose Dice is under 0.7"
    assert content["summary"]["liver"]["dice"]["under"] == 0.5 and content["summary"]["spleen"]["dice"]["under"] is None
    assert content["skipped"] == ["c"] and content["summary"]["overall"]["folding"]["mean"] == 0.25
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.csv", "metrics.json"]


def test_printed_table_names_labels_and_means():
    table = table_of(("a", {1: 0.8, 2: 0.6}))
    table.skip("c")
    console = Console(width=120, record=True, file=io.StringIO())
    table.print(console)
    text = console.export_text()
    spleen = next(line for line in text.splitlines() if "spleen" in line)
    assert " under" in text and " .70" in text and "100 %" in spleen
    assert "liver" in text and "0.700" in text and "not scored, for want of a label: 1" in text


def volume(values, affine, file):
    return MetaTensor(values, meta={"affine": torch.as_tensor(affine), "filename_or_obj": str(file)})


def item(name, seed, affine=None, **extra):
    pred, label = (torch.from_numpy(volume)[None] for volume in random_masks(seed))
    affine = torch.diag(torch.tensor([*SPACING, 1.0])) if affine is None else affine
    file = f"/data/{name}.nii.gz"
    return {
        "pred": volume(pred, affine, file),
        "label": volume(label, affine, file),
    } | extra


def evaluate(handler, items):
    engine = Engine(lambda engine, batch: [{k: v for k, v in case.items() if k != "case"} for case in batch])
    handler.attach(engine)
    engine.run([items[:2], items[2:]] if len(items) > 2 else [items])
    return engine.state.metrics["val_mean_dice"]


def test_handler_scores_writes_and_skips(tmp_path, capsys):
    cases = [item("one", 0, case="first"), item("two", 1), item("three", 2)]
    del cases[2]["label"]
    handler = NativeGridMetrics(tmp_path, NAMES, extra_columns=lambda case: {"voxels": case["pred"].numel()})
    mean = evaluate(handler, cases)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["case"] for row in rows] == ["first", "first", "two", "two"]  # the key "case", else the file's name
    assert mean == pytest.approx(np.mean([float(row["dice"]) for row in rows]))
    expected = case_metrics(*random_masks(1), SPACING, [1, 2])
    assert float(rows[3]["hd95"]) == expected[2]["hd95"] and rows[3]["voxels"] == str(14 * 12 * 10)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["skipped"] == ["three"]
    assert "overall" in capsys.readouterr().out
    assert evaluate(handler, cases) == mean  # a second run starts anew
    assert len(handler.table.rows) == 4


def test_handler_spacing_is_that_of_an_oblique_affine(tmp_path):
    turn, tilt = math.cos(0.3), math.sin(0.3)
    rotation = torch.tensor([[turn, -tilt, 0, 5], [tilt, turn, 0, -7], [0, 0, 1, 9], [0, 0, 0, 1]], dtype=torch.float64)
    affine = rotation @ torch.diag(torch.tensor([-1.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    handler = NativeGridMetrics(tmp_path, NAMES, print_table=False)
    evaluate(handler, [item("a", 0, affine=affine)])
    assert handler.table.rows[0]["assd"] == pytest.approx(case_metrics(*random_masks(0), SPACING, [1])[1]["assd"])


def test_handler_refuses_two_grids(tmp_path):
    handler = NativeGridMetrics(tmp_path, NAMES)
    moved = item("a", 0)
    moved["pred"].affine[0, 3] += 2
    with pytest.raises(InputError, match="case a: found pred and label with different affines"):
        handler._case_metrics("a", moved["pred"], moved["label"])
    with pytest.raises(InputError, match="case a: found pred and label of shapes"):
        handler._case_metrics("a", moved["pred"][:, 1:], moved["label"])


def test_without_labels_the_mean_is_nan(tmp_path):
    assert math.isnan(evaluate(NativeGridMetrics(tmp_path, NAMES), [item("a", 0, label=None)]))


def test_saved_volumes_give_the_means_of_the_csv(tmp_path, tiny_cohort):
    handler = NativeGridMetrics(tmp_path, {str(value): str(value) for value in range(6)}, print_table=False)
    cases = []
    for path in sorted((tiny_cohort / "labelsTr").iterdir())[:2]:
        label = nib.load(path)
        voxels = np.asarray(label.dataobj)
        pred = np.roll(voxels, 1, axis=0)
        nib.save(nib.Nifti1Image(pred, label.affine), tmp_path / path.name)
        volumes = {"pred": pred, "label": voxels}
        cases.append({k: volume(torch.from_numpy(v)[None], label.affine, path) for k, v in volumes.items()})
    evaluate(handler, cases)
    again = {}
    for path in sorted(tmp_path.glob("*.nii.gz")):
        pred, label = nib.load(path), nib.load(tiny_cohort / "labelsTr" / path.name)
        scores = case_metrics(np.asarray(pred.dataobj), np.asarray(label.dataobj), pred.header.get_zooms(), range(6))
        again[path.name.removesuffix(".nii.gz")] = scores
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert len(rows) == 10
    for column in ("dice", "hd95", "assd"):
        recomputed = np.mean([scores[column] for case in again.values() for scores in case.values()])
        assert np.mean([float(row[column]) for row in rows]) == pytest.approx(recomputed, rel=1e-5)


def run_rank(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    idist.sync()
    cases = [[item("a", 0), item("b", 1)], [item("c", 2), item("a", 0)]][rank]  # "a" repeated to even out the ranks
    mean = evaluate(NativeGridMetrics(folder / f"rank{rank}", NAMES, print_table=False), cases)
    (folder / f"mean{rank}").write_text(str(mean))
    torch.distributed.destroy_process_group()


def test_ranks_are_gathered_and_rank_0_writes(tmp_path):
    torch.multiprocessing.spawn(run_rank, args=(tmp_path,), nprocs=2)
    rows = list(csv.DictReader((tmp_path / "rank0" / "metrics.csv").open()))
    assert [row["case"] for row in rows] == ["a", "a", "b", "b", "c", "c"]
    assert not (tmp_path / "rank1").exists()
    assert (tmp_path / "mean0").read_text(encoding="utf-8") == (tmp_path / "mean1").read_text(encoding="utf-8")
    assert float((tmp_path / "mean0").read_text(encoding="utf-8")) == pytest.approx(
        np.mean([float(row["dice"]) for row in rows])
    )


def test_what_a_mask_does_not_tell_about_is_not_scored(tmp_path):
    handler = NativeGridMetrics(tmp_path, NAMES, extra_columns=lambda item: {"other dice": {1: 0.5, 2: 0.25}})
    whole, partial = item("a", 1), item("b", 2, known_labels=torch.tensor([2]))
    evaluate(handler, [whole, partial])
    assert [(row["case"], row["label"]) for row in handler.table.rows] == [("a", 1), ("a", 2), ("b", 2)]
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["untold"] == {"b": [1]} and content["summary"]["liver"]["dice"]["count"] == 1
    assert content["summary"]["overall"]["dice"]["excluded"] == 0
    text = io.StringIO()
    handler.table.print(Console(file=text, width=100))
    assert "not scored, since masks don't tell about them: 1 structures of 1 cases" in text.getvalue()
    assert "untold" not in json.dumps(evaluated(tmp_path / "whole", whole))


def evaluated(folder, *items):
    folder.mkdir()
    evaluate(NativeGridMetrics(folder, NAMES), list(items))
    return json.loads((folder / "metrics.json").read_text())
