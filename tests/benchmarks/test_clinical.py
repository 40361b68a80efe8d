"""Which cases a peer is given, and how results stand beside each other."""

from __future__ import annotations

import json

import pytest

from benchmarks.clinical import labelled_cases, main
from common.data.datalist import read_datalist
from common.data.selection import few_labeled


def run_of(**cohort) -> dict:
    return {"results": {}, "config": {"cohort": cohort}}


def test_a_peer_learns_from_the_cases_that_the_bundle_has_opened(tiny_cohort):
    content = read_datalist(tiny_cohort)
    drawn = labelled_cases(run_of(num_labeled=2, labeled=None, seed=1), content)
    assert drawn == few_labeled(content, 2, 1, None)[0] and len(drawn) == 2
    named = labelled_cases(run_of(num_labeled=4, labeled=["sample_003"], seed=0), content)
    assert [case["case"] for case in named] == ["sample_003"]
    (atlas,) = labelled_cases({"results": {"atlas": "sample_002"}, "config": {"cohort": {}}}, content)
    assert atlas["case"] == "sample_002" and "label" in atlas


def test_a_run_without_a_labelled_volume_has_no_such_peer(tiny_cohort):
    content, bits = read_datalist(tiny_cohort), run_of(seed=0)
    assert labelled_cases(bits, content, must=False) == []
    with pytest.raises(SystemExit, match="bits or slices"):
        labelled_cases(bits, content)


def test_table_has_a_row_for_each_answer_and_tests_the_first_against_all_others(tmp_path, capsys):
    def rows(dice, **more):
        labels = enumerate(("organ", "vessel"), start=1)
        return [
            {
                "case": str(case),
                "label": value,
                "name": name,
                "ml": 4.0 * value,
                "dice": dice + 0.01 * case,
                "hd95": 2.0,
            }
            | more
            for value, name in labels
            for case in range(8)
        ]

    bundle = {"row": "semisam_plus", "cpu_seconds": 100.0, "control_and_evaluation_cpu_seconds": 5.0}
    results = [
        {**bundle, "rows": rows(0.7, **{"plain dice": 0.6})},
        {"row": "nnU-Net 3d_fullres", "cpu_seconds": 99.0, "rows": rows(0.8)},
    ]
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, result in zip(paths, results, strict=True):
        path.write_text(json.dumps(result))
    main(["table", *map(str, paths)])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("|  | CPU-s | Dice | under 3 ml (0) | 3-10 ml (16)") and "organ | vessel" in said[0]
    first = {line.split(" | ")[0].lstrip("| "): line.split(" | ")[1:3] for line in said[2:5]}
    assert first == {
        "semisam_plus": ["100", "0.735"], "semisam_plus: plain dice": ["", "0.600"],
        "nnU-Net 3d_fullres": ["99", "0.835"],
    }  # fmt: skip
    assert said[2].split(" | ")[3] == "–"  # no structure of that size
    judged = [line for line in said if line.startswith("* ")]
    assert "nnU-Net 3d_fullres 0.835: -0.100 on 8 cases" in judged[0] and "plain dice 0.600: +0.135" in judged[1]


def test_of_several_atlases_a_peer_learns_from_all(tiny_cohort):
    run = {"results": {"atlas": ["sample_002", "sample_003"]}, "config": {"cohort": {}}}
    assert [case["case"] for case in labelled_cases(run, read_datalist(tiny_cohort))] == ["sample_002", "sample_003"]
