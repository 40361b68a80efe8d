from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine

from common.grid.grid import Grid
from common.run.run import Run
from common.serving.inferers import VolumeInferer
from support.bundle.path import import_bundle
from support.data.shorter_scan import shorter_scan
from support.semisam_plus.fake import Knowing, cubes, use_fake_sams

module, panel_module = (
    import_bundle("semisam_plus", "generalists.answers"),
    import_bundle("semisam_plus", "generalists.panel"),
)
ITEMS = cubes(5)
GRID = Grid((16, 16, 16), (1, 1, 1), (0, 1))
CASES = [{"case": item["case"], "image": f"/{item['case']}.nii.gz"} for item in ITEMS]


@pytest.fixture
def sams(tmp_path, monkeypatch):
    return use_fake_sams(monkeypatch, tmp_path)


def make(folder, generalist="mobile_sam", **options):
    panel = panel_module.GeneralistPanel(generalist, str(folder / "sam"))
    cohort = SimpleNamespace(labeled=CASES[:1], unlabeled=CASES[1:], cases=CASES, grid=GRID)
    return module.GeneralistAnswers(cohort, ITEMS, panel, VolumeInferer(), str(folder / "answers"), **options)


def test_every_unlabelled_case_is_answered_and_no_weight_of_a_generalist_changes(tmp_path, sams):
    answers = make(tmp_path)
    before = {name: value.clone() for name, value in sams["mobile_sam"].state_dict().items()}
    answers.prepare()
    assert sams["mobile_sam"].slices == 4 * 16 and answers.load("case_1") is None
    specialist = Knowing().train()
    answers.ask(1, specialist)
    assert sorted(answers.answered) == ["case_1", "case_2", "case_3", "case_4"] and specialist.training
    assert sams["mobile_sam"].slices == 4 * 16  # embedded once
    found = answers.load("case_2")
    assert found["answer"].shape == (2, 16, 16, 16) and found["disagreement"].shape == (1, 16, 16, 16)
    assert found["weight"] == 1 and answers.judgement("case_2")["agreement"] > 0.7
    assert answers.load("case_0") is None
    assert all(torch.equal(before[name], value) for name, value in sams["mobile_sam"].state_dict().items())
    assert not any(parameter.requires_grad for parameter in sams["mobile_sam"].parameters())


def test_only_the_answers_of_most_agreement_are_learnt_from(tmp_path, sams):
    answers = make(tmp_path, keep=0.5)
    answers.prepare()
    answers.ask(1, Knowing())
    agreed = {case: answers.judgement(case)["agreement"] for case in answers.answered}
    best = sorted(sorted(agreed), key=lambda case: -agreed[case])[:2]
    assert {case for case in agreed if answers.load(case)["weight"] > 0} == set(best)
    again = make(tmp_path, keep=0.5, resume=True)
    again.enter(1)
    assert {case for case in agreed if again.load(case)["weight"] > 0} == set(best)


def test_resumed_round_keeps_what_is_there_and_a_new_run_does_not(tmp_path, sams):
    first = make(tmp_path)
    first.prepare()
    first.ask(1, Knowing())
    (first.bank(1).folder / "case_3.safetensors").unlink()
    resumed, specialist = make(tmp_path, resume=True), Knowing()
    resumed.prepare()
    resumed.ask(1, specialist)
    assert specialist.asked == 1 and len(resumed.answered) == 4
    anew, specialist = make(tmp_path), Knowing()
    anew.prepare()
    assert not list(first.folder.glob("*/*.safetensors"))
    anew.ask(1, specialist)
    assert specialist.asked == 4


def test_other_generalists_or_labels_have_a_folder_of_their_own(tmp_path, sams):
    one, two = make(tmp_path), make(tmp_path, ["mobile_sam", "lite_medsam"])
    assert one.folder != two.folder and one.folder == make(tmp_path).folder


def test_a_share_of_the_cases_takes_turns_and_old_rounds_go(tmp_path, sams):
    answers = make(tmp_path, cases_per_round=2)
    answers.keep_rounds = 1
    answers.prepare()
    assert sams["mobile_sam"].slices == 2 * 16  # what is not asked about is not embedded
    counts = []
    for number in (1, 2, 3):
        answers.ask(number, Knowing())
        counts.append(len(answers.answered))
    assert counts == [2, 4, 4]
    assert not answers.bank(1).folder.exists() and answers.bank(2).folder.exists()  # two cases still live by round 2
    with pytest.raises(ValueError, match="answer_cases is 0"):
        make(tmp_path, cases_per_round=0)


@pytest.mark.parametrize(("every", "save_every", "rounds"), [(1, 1, 4), (6, 2, 3), (2, 3, 5), (0, 1, 4)])
def test_the_rounds_since_the_checkpoint_before_the_last_are_kept(tmp_path, sams, every, save_every, rounds):
    assert make(tmp_path, every=every, save_every=save_every).keep_rounds == rounds


@pytest.mark.parametrize("teacher", [True, False])
def test_rounds_come_when_they_are_due_and_ask_the_teacher_where_there_is_one(tmp_path, sams, teacher):
    answers, network = make(tmp_path, first=2, every=3), Knowing()
    answers.prepare()
    objective = SimpleNamespace(teacher=Knowing() if teacher else None)
    run, when = Run(*[str(tmp_path)] * 4), []
    engine = Engine(lambda engine, batch: when.append(answers.round))
    engine.network, engine.objective = network, objective
    module.AnswerRounds(answers, run).attach(engine)
    engine.run([0], max_epochs=6)
    assert when == [0, 1, 1, 1, 2, 2]
    asked = objective.teacher if teacher else network
    assert asked.asked == 8 and (network.asked == 0 or not teacher)
    assert run.manifest.stages["ask generalists"]["times_run"] == 2
    with pytest.raises(ValueError, match="answer_every is -1"):
        make(tmp_path, every=-1)


def test_where_each_step_asks_there_are_no_rounds(tmp_path, sams):
    answers, engine = make(tmp_path, every=0), Engine(lambda engine, batch: None)
    module.AnswerRounds(answers, Run(*[str(tmp_path)] * 4)).attach(engine)
    engine.run([0], max_epochs=2)
    assert not answers.in_rounds and answers.round == 0 and make(tmp_path).in_rounds


def test_without_generalists_nothing_is_made(tmp_path):
    answers = make(tmp_path, None)
    answers.prepare()
    assert answers.answered == [] and not (tmp_path / "answers").exists() and not (tmp_path / "sam").exists()


def test_beyond_the_scan_nobody_is_asked_and_nothing_is_answered(tmp_path, sams, monkeypatch):
    """The scan ends within the cube that the specialist sees."""
    seen = []
    answers = make(tmp_path)
    answers.images = [{**item, "image": shorter_scan(item["image"], 2, 7)} for item in ITEMS]
    ask = answers.panel.ask
    monkeypatch.setattr(answers.panel, "ask", lambda embedded, asked: (seen.append(asked), ask(embedded, asked))[1])
    answers.prepare()
    answers.ask(1, Knowing())
    inside = torch.zeros(16)
    inside[2:9] = 1
    for asked, case in zip(seen, CASES[1:], strict=True):
        found = answers.load(case["case"])["answer"]
        assert (asked[0] == 1).all((0, 1))[inside == 0].all() and asked[1][..., 2:9].max() > 0.5
        assert found[..., inside == 0].max() == 0 and found[1][..., 2:9].max() > 0.5
