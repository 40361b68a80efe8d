"""What the table and the report of ADA-SAM say; that they stand in a run is tested with the bundle."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from common.run.manifest import RunManifest
from common.scoring.table import MetricsTable
from support.ada_sam.fake import FakeLabeller, cohort, images
from support.bundle.finish import run_finish
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "finish")
network, levels = (import_bundle("ada_sam", f"common.{name}.network") for name in ("grid", "levels"))
Review = import_bundle("ada_sam", "review").Review


def finished(folder, scored: bool = True, itself: bool = False) -> module.Finish:
    known = cohort()
    known.scored = [1] if scored else []
    labeller = FakeLabeller(known)
    table = MetricsTable(known.labels)
    if scored:
        extra = {"itself dice": {1: 0.6, 4: 0.5}, "slices dice": {1: 0.3, 4: 0.2}}
        table.add("case_9", {v: {"dice": 0.75, "hd95": 1.0, "assd": 1.0} for v in (1, 4)}, **extra)
    volume = nn.Linear(2, 2)
    plan = SimpleNamespace(
        volume=volume,
        network=volume if itself else nn.Linear(2, 2),
        run=SimpleNamespace(manifest=RunManifest(folder), bundle_root=folder, release=lambda: None),
        cohort=known,
        adapted=SimpleNamespace(base={"sam": "mobile_sam", "sha256": "ab", "image_size": 256}),
        labeller=None if itself else labeller,
        review=None if itself else Review(labeller, known, images(), str(folder)),
        trainers={},
    )
    return run_finish(module.Finish, plan, table, folder, plan.network)


def test_segmenter_stands_beside_ada_sam_itself_and_slice_by_slice(tmp_path, capsys):
    finish = finished(tmp_path)
    results = finish.manifest.results
    assert results["dice"]["front"] == {"method": 0.75, "itself": 0.6, "slices": 0.3}
    assert finish.rows()[0]["gain over ADA-SAM"] == pytest.approx(0.15)
    assert results["label_slices"] == {"case_0": [3, 5]} and results["deployed"] == "segmenter"
    assert results["base"]["sha256"] == "ab" and list(results["flags"]) == ["case_1"]
    assert "+0.150" in capsys.readouterr().out


def test_report_says_the_supervision_the_masks_and_what_looks_wrong(tmp_path):
    finished(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in (
        "masks on 2 slices of 1 cases",
        "Which slices had masks",
        "4, 6",
        "the mask jumps at slice 5",
        "1 of 2 masks stand out",
    ):
        assert words in page, words
    for words in ("own prompts", "mobile_sam at 256 pixels", "which it learnt from"):
        assert words in page, words


def test_ada_sam_itself_as_what_is_deployed(tmp_path):
    finish = finished(tmp_path, itself=True)
    results = finish.manifest.results
    assert results["deployed"] == "ADA-SAM itself" and results["flags"] == {}
    assert results["dice"]["front"] == {"method": 0.75, "slices": 0.3}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What is deployed is ADA-SAM itself" in page and "What the segmenter learnt from" not in page


def test_nothing_to_score_is_no_error(tmp_path, capsys):
    assert finished(tmp_path, scored=False).manifest.results["dice"] == {}
    assert "no case with a label to score" in capsys.readouterr().out


@pytest.mark.parametrize("refused", [False, True])
def test_a_second_level_that_is_refused_is_not_in_model_pt(tmp_path, refused):
    finish, size = finished(tmp_path), ((8, 8, 8), (1.0, 1.0, 1.0), (0, 1))
    coarse, fine = (network.BodyNetwork(nn.Conv3d(1, 2, 1), *size) for _ in range(2))
    finish.network = levels.locate_then_segment(coarse, fine)
    fine.refused = refused
    names = finish.weights().keys()
    assert names == (coarse if refused else finish.network).state_dict().keys()
