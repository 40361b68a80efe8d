"""What the table and the report of WeakMedSAM say; that they stand in a run is tested with the bundle."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from common.run.manifest import RunManifest
from common.scoring.table import MetricsTable
from support.bundle.finish import run_finish
from support.bundle.path import import_bundle
from support.weakmedsam.fake import SIZE, FakeLabeller, cohort, images, one_hot

Finish = import_bundle("weakmedsam", "finish").Finish
Review = import_bundle("weakmedsam", "review").Review


class Answers(nn.Module):
    """Stands for the trained network: the truth, of which it leaves out the second label where it has not learnt it."""

    def __init__(self, learnt: bool) -> None:
        super().__init__()
        self.learnt, self.weight = learnt, nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape == (1, 1, *SIZE) and not self.training
        logits = one_hot()[None].clone()
        if not self.learnt:
            logits[:, 2, ..., 5:] = 0  # of its slices 4 to 8 one is left
        return logits


def finished(
    folder,
    scored: bool = True,
    backbone: str | None = "mobile_sam",
    learnt: bool = True,
    dice: float = 0.75,
    **labeller_facts,
) -> Finish:
    known = cohort(reject=("case_1",))
    known.scored = [1] if scored else []
    labeller = FakeLabeller(known)
    labeller.images = images()
    vars(labeller).update(labeller_facts)
    table = MetricsTable(known.labels)
    if scored:
        extra = {"prior dice": {1: 0.6, 4: 0.5}, "centre dice": {1: 0.3, 4: 0.2}, "auc": {1: 0.9, 4: math.nan}}
        extra |= {
            "index auc": {1: 0.95, 4: math.nan},
            "slice dice": {1: 0.9, 4: 0.9},
            "slice jaccard": {1: 0.8, 4: 0.8},
        }
        extra |= {"slice assd px": {1: 1.0, 4: 2.0}, "slice hd95 px": {1: 1.0, 4: 2.0}}
        table.add("case_9", {v: {"dice": dice, "hd95": 1.0, "assd": 1.0} for v in (1, 4)}, **extra)
    plan = SimpleNamespace(
        run=SimpleNamespace(manifest=RunManifest(folder), bundle_root=folder, release=lambda: None),
        cohort=known,
        labeller=labeller,
        features=SimpleNamespace(name=backbone),
        review=Review(labeller, known, images(), str(folder)),
        trainers={},
    )
    answers = Answers(learnt)
    return run_finish(Finish, plan, table, folder, answers, network=answers, inferer=lambda x, asked: asked(x))


def test_model_stands_beside_both_controls(tmp_path, capsys):
    finish = finished(tmp_path)
    results = finish.manifest.results
    assert results["dice"]["front"] == {"method": 0.75, "prior": 0.6, "centre": 0.3}
    assert finish.rows()[0]["gain over prior"] == pytest.approx(0.15)
    assert results["auc"]["front"] == 0.9 and results["index_auc"]["front"] == 0.95
    assert results["slice_metric_of_the_paper"]["slice dice"]["overall"] == pytest.approx(0.9)
    assert (
        results["learnt_from"] == 1 and results["rejected"] == ["case_1"] and results["positive_share"]["back"] == 0.5
    )
    assert "+0.150" in capsys.readouterr().out


def test_report_says_the_supervision_the_share_and_what_its_numbers_are_not(tmp_path):
    finished(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in (
        "one typical box for each label",
        "back 50 % of the axial slices",
        "1 pseudo labels",
        "slice index alone",
    ):
        assert words in page, words
    for words in ("never with a volume Dice", "A result below them is no result", "mobile_sam, used in training only"):
        assert words in page, words
    order = [page.index(words) for words in ("Is it on this slice", "What the network learnt from", "per-slice metric")]
    assert order == sorted(order)


def test_bits_alone_and_no_sam_are_said_as_such(tmp_path):
    finished(tmp_path, backbone=None, prior="centre", threshold="otsu")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "typical box" not in page.split("typical volume")[0] and "No SAM was used" in page


def test_nothing_to_score_is_no_error(tmp_path, capsys):
    finish = finished(tmp_path, scored=False)
    assert finish.manifest.results["dice"] == {} and finish.manifest.results["auc"] == {}
    assert "no case with a label to score" in capsys.readouterr().out


def test_the_run_ends_with_what_it_has_to_show_for_itself(tmp_path, capsys):
    finish = finished(tmp_path / "good")
    assert finish.agreement == {"front": 1, "back": 1}
    said = capsys.readouterr().out
    assert "verdict: WeakMedSAM" in said and "not learnt" not in said and "lower on" not in said
    bad = finished(tmp_path / "bad", learnt=False, dice=0.55)
    said = capsys.readouterr().out
    assert bad.agreement["front"] == 1 and 0 < bad.agreement["back"] < 0.5
    assert "verdict: not learnt: back (0." in said and "lower on front (0.550, 0.600)" in said
    assert "not learnt: back" in (tmp_path / "bad" / "report.html").read_text(encoding="utf-8")


def test_without_truth_a_network_that_has_not_learnt_is_named_all_the_same(tmp_path, capsys):
    finished(tmp_path, scored=False, learnt=False)
    said = capsys.readouterr().out
    assert "verdict: not learnt: back" in said and "lower on" not in said
