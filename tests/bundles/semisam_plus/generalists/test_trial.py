from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from common.grid.grid import Grid
from common.pseudo_labels.opinions import agreement
from common.serving.inferers import VolumeInferer
from support.bundle.path import import_bundle
from support.semisam_plus.fake import Knowing, cubes, use_fake_sams

module, panel_module = (
    import_bundle("semisam_plus", "generalists.trial"),
    import_bundle("semisam_plus", "generalists.panel"),
)
answers_module = import_bundle("semisam_plus", "generalists.answers")
ITEMS = [
    {**item, "label": torch.cat([item["image"] < 0.5, item["image"] > 0.5]).float()} for item in cubes(4, (24, 24, 24))
]
GRID = Grid((24, 24, 24), (1, 1, 1), (0, 1))
CASES = [{"case": item["case"], "image": f"/{item['case']}.nii.gz"} for item in ITEMS]


@pytest.fixture
def sams(tmp_path, monkeypatch):
    return use_fake_sams(monkeypatch, tmp_path)


def make(folder, generalist="mobile_sam", **options):
    cohort = SimpleNamespace(labeled=CASES[:2], unlabeled=CASES[2:], cases=CASES, grid=GRID)
    panel = panel_module.GeneralistPanel(generalist, str(folder / "sam"))
    return module.GeneralistTrial(cohort, ITEMS, panel, **options)


@pytest.mark.parametrize("dice", [0.8, 0.6])
def test_damage_reaches_its_dice_in_whole_regions_and_comes_again_with_its_seed(dice):
    label = ITEMS[0]["label"]
    damaged = module.damage(label, dice, seed=3)
    assert agreement(damaged, label) == pytest.approx(dice, abs=0.03)
    assert torch.allclose(damaged.sum(0), torch.ones(label.shape[1:]))
    assert torch.equal(damaged, module.damage(label, dice, seed=3))
    assert not torch.equal(damaged, module.damage(label, dice, seed=4))
    wrong = (damaged.argmax(0) != label.argmax(0)).float()
    shifted = wrong.roll(1, 0)
    assert (wrong * shifted).sum() > 0.5 * wrong.sum()  # a wrong voxel has a wrong neighbour: no salt and pepper


def test_who_mends_the_masks_teaches(tmp_path, sams):
    trial = make(tmp_path)
    trial.run()
    # a box around a damaged cube is nearly the cube
    assert trial.gain(0) > 0 and trial.panel.teachers == ["mobile_sam"]
    (line,) = trial.summary()
    assert line["teaches"] and set(line) >= {"masks damaged to 0.6", "mean gain"}
    assert {row["case"] for row in trial.rows} == {"case_0", "case_1"}


def test_who_makes_them_worse_is_silenced_and_says_why(tmp_path, sams, capsys):
    trial = make(tmp_path, ["mobile_sam", "lite_medsam"])
    sams["lite_medsam"].mask_decoder.weight.neg_()  # everything but the box
    trial.run()
    assert trial.panel.names == ["mobile_sam", "lite_medsam"] and trial.panel.teachers == ["mobile_sam"]
    said = capsys.readouterr().err
    assert "lite_medsam is not learnt from" in said and "min_gain" in said and "mobile_sam" not in said
    assert [line["teaches"] for line in trial.summary()] == [True, False]


def test_nobody_is_asked_where_all_are_silenced(tmp_path, sams):
    trial = make(tmp_path, min_gain=2.0)
    answers = answers_module.GeneralistAnswers(
        trial.cohort, ITEMS, trial.panel, VolumeInferer(), str(tmp_path / "answers")
    )
    before = answers.folder
    trial.run()
    assert answers.folder != before  # answers of those who teach lie elsewhere
    answers.prepare()
    answers.ask(1, Knowing())
    assert answers.asked(1) == [] and answers.answered == []
    specialist = torch.rand(1, 2, 24, 24, 24).softmax(1)
    answer, disagreement, weight = trial.panel(ITEMS[2]["image"][None], specialist)
    assert torch.equal(answer, specialist) and not disagreement.any() and weight.tolist() == [0.0]


def test_no_trial_lets_everyone_teach(tmp_path, sams):
    for cases in (0, None, "null"):
        trial = make(tmp_path, min_gain=2.0, cases=cases)
        trial.run()
        assert trial.rows == [] and trial.summary() == [] and trial.panel.teachers == ["mobile_sam"]
    nobody = make(tmp_path, None)
    nobody.run()
    assert nobody.summary() == []


def test_labels_of_other_cases_are_not_needed(tmp_path, sams):
    trial = make(tmp_path, cases=9)
    trial.images = [*ITEMS[:2], *({"case": item["case"], "image": item["image"]} for item in ITEMS[2:])]
    trial.run()
    assert {row["case"] for row in trial.rows} == {"case_0", "case_1"}


def test_beyond_the_scan_no_mask_is_damaged_into_being(tmp_path, sams, monkeypatch):
    trial, prompts, damage = make(tmp_path), [], module.damage
    known = torch.zeros(ITEMS[0]["label"].shape[-1])
    known[:11] = 1
    trial.images = [{**item, "label": item["label"] * known} for item in ITEMS]
    monkeypatch.setattr(module, "damage", lambda label, *rest: (prompts.append(label), damage(label, *rest))[1])
    trial.run()
    assert all(torch.equal(label.sum(0), torch.ones(label.shape[1:])) for label in prompts)
    assert all((label[0, ..., 11:] == 1).all() for label in prompts)
