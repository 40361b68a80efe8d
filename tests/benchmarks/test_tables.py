from __future__ import annotations

import json
import math

import pytest

from benchmarks.tables import main, markdown, wilcoxon_paired
from common.errors import InputError


@pytest.fixture
def printed(tmp_path, capsys):
    """Return a function from (kind, results, options) to what the command prints."""

    def run(kind, results, *options):
        path = tmp_path / "results.json"
        path.write_text(json.dumps(results), encoding="utf-8")
        assert main([kind, str(path), *options]) == 0
        return capsys.readouterr().out

    return run


def scored(dice, hd95, **more):
    return [{"case": str(n), "dice": d, "hd95": h, **more} for n, (d, h) in enumerate(zip(dice, hd95, strict=True))]


def test_wilcoxon_counts_wins_and_drops_nan():
    result = wilcoxon_paired([0.8, 0.9, 0.7, 0.85, 0.6, math.nan], [0.7, 0.8, 0.65, 0.8, 0.61, 0.5])
    assert result["n"] == 5 and result["wins"] == 4
    assert result["mean_difference"] == pytest.approx((0.1 + 0.1 + 0.05 + 0.05 - 0.01) / 5)
    assert result["p"] == pytest.approx(0.125, abs=0.01)
    assert wilcoxon_paired([0.5, 0.6], [0.5, 0.6])["p"] == 1.0
    assert wilcoxon_paired([math.nan], [0.5])["n"] == 0
    with pytest.raises(InputError, match="found 2 and 1 scores"):
        wilcoxon_paired([1, 2], [1])


def test_a_table_without_rows_is_its_head():
    assert markdown("row", {"Dice": str, "min": str}, {}) == ["| row | Dice | min |", "|---|---|---|"]


def test_few_label_by_hand(printed):
    def run(row, draw, dice, **more):
        cases = scored(dice, [2.0, 4.0], **{"cleaned dice": 0.5, "cleaned hd95": 1.5}, **more)
        return {"labels": 2, "draw": draw, "row": row, "cost": {"embed": 7, "train": 10 + draw}, "cases": cases}

    # draw 1 stands first in the file and last in the table; the generalists' row has draw 1 only, and is tested on it
    rows = [run("dtc", 1, [0.5, 0.7]), run("dtc", 0, [0.1, 0.3])]
    rows.append(run("dtc + both", 1, [0.6, 0.9], **{"lite_medsam dice": 0.25}))
    del rows[-1]["cases"][1]["lite_medsam dice"]
    rows.append(run("dtc", 0, [0.9, 0.9]) | {"labels": None})
    rows.append(run("dtc", 0, [0.2, 0.4]) | {"labels": 1})
    head = "| row | Dice by draw | Dice | min | HD95 mm | cleaned | cleaned HD95 | CPU-s | against the same without |"
    line = "|---" * 9 + "|"
    # differences of .1 and .2, both of one sign: p = 2 / 2^2
    assert printed("few_label", {"rows": rows}).split("\n") == [
        "", "**1 labels**", "", head, line,
        "| dtc | 0.300 | 0.300 | 0.200 | 3.0 | 0.500 | 1.5 | 10 |  |",
        "", "**2 labels**", "", head, line,
        "| dtc | 0.200 / 0.600 | 0.400 | 0.100 | 3.0 | 0.500 | 1.5 | 10 |  |",
        "| dtc + both | 0.750 | 0.750 | 0.600 | 3.0 | 0.500 | 1.5 | 11 | +0.150, 2/2, p=0.5 |",
        "", "dtc + both: lite_medsam dice 0.250 on 1 cases, the specialist 0.600 there",
        "", "**all labels**", "", head, line,
        "| dtc | 0.900 | 0.900 | 0.900 | 3.0 | 0.500 | 1.5 | 10 |  |", "",
    ]  # fmt: skip


def few_slices():
    cost = {"classify": 1, "adapt": 20, "slice UNet": 300, "train": 4000, "label": 9, "score": 9}
    ways = {"volume": 0.5, "2D UNet within": 0.25, "segmenter": 0.75}
    case = {"case": "a"} | {f"{way} {key}": value for way, value in ways.items() for key in ("dice", "hd95")}
    plain = {"classify": 1, "train": 40}
    return {"rows": [
        {"row": "2D UNet", "slices": 5, "draw": 0, "cost": plain, "cases": [{"case": "a", "dice": 0.5, "hd95": 8.0}]},
        {"row": "the method", "slices": 5, "draw": 0, "cost": cost, "cases": [case]},
    ]}  # fmt: skip


def test_few_slices_gives_each_way_its_row_and_what_it_cost(printed):
    assert printed("few_slices", few_slices()).split("\n")[1:] == [
        "**5 slices with masks**", "",
        "| row | Dice by draw | Dice | min | HD95 mm | training CPU-s | against 2D UNet |", "|---" * 7 + "|",
        "| 2D UNet | 0.500 | 0.500 | 0.500 | 8.0 | 41 |  |",
        "| the method: volume | 0.500 | 0.500 | 0.500 | 0.5 | 21 | +0.000, 0/1, p=1 |",
        "| the method: 2D UNet within | 0.250 | 0.250 | 0.250 | 0.2 | 300 | -0.250, 0/1, p=1 |",
        "| the method: segmenter | 0.750 | 0.750 | 0.750 | 0.8 | 4321 | +0.250, 1/1, p=1 |", "",
    ]  # fmt: skip


def test_related_tests_a_row_against_the_same_without_its_part(printed):
    def row(name, dice, against=None, trained=None, draw=0):
        cases = scored(dice, [1.0, 2.0])
        run = {"row": name, "labels": 4, "draw": draw, "against": against, "cost": {"features": 9, "train": 10}}
        return run | {"cases": cases} | ({"trained": trained} if trained else {})

    rows = [row("3D UNet", [0.5, 0.5]), row("full", [0.5, 0.75], None, 4_200_000)]
    rows.append(row("ma_sam", [0.75, 1.0], "full", 4_300_000))
    assert printed("related", {"rows": rows}).split("\n")[1:] == [
        "**4 labels**", "",
        "| row | Dice by draw | Dice | min | HD95 mm | training CPU-s | against |", "|---" * 7 + "|",
        "| 3D UNet | 0.500 | 0.500 | 0.500 | 1.5 | 10 |  |",
        "| full, 4.20 M | 0.625 | 0.625 | 0.500 | 1.5 | 10 |  |",
        "| ma_sam, 4.30 M (against full) | 0.875 | 0.875 | 0.750 | 1.5 | 10 | +0.250, 2/2, p=0.5 |", "", "",
    ]  # fmt: skip


def test_few_slices_against_another_way(printed):
    lines = printed("few_slices", few_slices(), "--against", "the method: volume").split("\n")
    assert lines[3].endswith("| against the method: volume |")
    assert [line.split(" | ")[-1] for line in lines[5:9]] == [
        "+0.000, 0/1, p=1 |", " |", "-0.250, 0/1, p=1 |", "+0.250, 1/1, p=1 |"
    ]  # fmt: skip


def test_one_shot_by_hand(printed):
    def cases(dice, refined):
        return scored(dice, [1.0, 2.0], **{"assd": 0.5, "dice+intensity": refined, "folding": 0.25, "dice+tta": 0.75})

    instance, full = cases([0.5, 0.6], 0.5), cases([0.6, 0.9], 0.625)
    atlases = {
        "A": {"rows": {"propagation: instance": instance, "full": full, "two rounds": full}, "costs": {"full": 30.5}},
        "B": {"rows": {"full": full, "propagation: instance": instance, "no prompt": full}, "costs": {}},
    }
    head = (
        "| row | Dice by atlas | Dice | + intensity | min | HD95 mm | ASSD mm | CPU-s | against instance optimisation |"
    )
    row = "| full | 0.750 / 0.750 | 0.7500 | 0.6250 | 0.600 | 1.50 | 0.50 | 30 |"
    # rows that an atlas lacks are left out; four equal differences of one sign: p = 2 / 2^4
    assert printed("one_shot", {"atlases": atlases}).split("\n") == [
        head, "|---" * 9 + "|",
        "| propagation: instance | 0.550 / 0.550 | 0.5500 | 0.5000 | 0.500 | 1.50 | 0.50 |  |  |",
        f"{row} +0.125, 4/4, p=0.12 |", "",
        "- full, dice+tta: 0.7500; against raw +0.000, 2/4, p=1",
        "- propagation: instance: folding 0.2500 %",
        "- costs in CPU seconds, atlas A: full 30.5", "- costs in CPU seconds, atlas B: ", "",
    ]  # fmt: skip
    of_a = printed("one_shot", {"atlases": atlases}, "--atlas", "A", "--metric", "dice")
    assert "| full | 0.750 | 0.7500 | 0.6250 | 0.600 | 1.50 | 0.50 | 30 | +0.200, 2/2, p=0.5 |" in of_a
    assert "- two rounds against full: +0.000, 0/2, p=1\n" in of_a and "atlas B" not in of_a


def test_weak_leaves_missing_scores_out(printed):
    pseudo = [{"case": "a", "1": {"dice": 0.5, "hd95": math.nan}}, {"case": "b", "1": {"dice": 0.75, "hd95": 3.0}}]
    test = [{"case": case, "label": 1, "name": "spleen", "dice": dice, "hd95": hd95, "auc": 0.5}
            for case, dice, hd95 in (("c", 0.25, None), ("d", math.nan, None))]  # fmt: skip
    cost = {"features": 10, "classify": 5, "segment": 1000}
    rows = [{"row": "box", "cost": cost, "cases": pseudo}, {"row": "all labels", "cost": {"segment": 9}, "test": test}]
    assert printed("weak", {"share": "40 % positive", "rows": rows}).split("\n") == [
        "40 % positive", "",
        "| pseudo labels | Dice 1 | HD95 1, mm | CPU-s |", "|---" * 4 + "|", "| box | 0.625 (0.50) | 3.0 | 15 |", "",
        "| segmenter | label | Dice | HD95 mm | prior + bits | centre + bits | presence AUC | slice index AUC "
        "| per-slice Dice, as published |", "|---" * 9 + "|",
        "| all labels | spleen | 0.250 (0.25) |  |  |  | 0.500 |  |  |", "", "",
    ]  # fmt: skip


def test_results_of_another_benchmark_or_none_are_said_in_a_line(tmp_path, capsys):
    path = tmp_path / "results.json"
    assert main(["weak", str(path)]) == 1
    assert "can't be read" in capsys.readouterr().err
    path.write_text('{"rows": []}', encoding="utf-8")
    assert main(["one_shot", str(path)]) == 1
    assert capsys.readouterr().err == f"error: {path}: found no 'atlases', wanted results of benchmarks.one_shot\n"
