from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch
from monai.data import Dataset
from torch import nn

from common.costs.line import NONE
from common.costs.pieces import let_rehearse
from common.costs.rehearsal import Rehearsal
from common.run.run import Run
from common.training import few_steps
from common.training.few_steps import FewSteps, answer_with
from common.training.loaders import stream_loader
from common.training.stage import Stage

CLASSES, SIZE = 3, (4, 4, 4)


class Objective(nn.Module):
    """Each step takes a hundredth of a second."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, CLASSES, 1)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, batch):
        self.step += 1
        time.sleep(0.01)
        return {"loss": self.layer(batch["image"]).square().mean()}


class Epochs:
    """Notes which epochs begin."""

    def __init__(self):
        self.seen = []

    def attach(self, engine):
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.seen.append(engine.state.epoch))


@pytest.fixture
def rehearsing(tmp_path, monkeypatch):
    monkeypatch.setattr(few_steps, "SECONDS", 0.0)
    one = Rehearsal(tmp_path)
    let_rehearse(one)
    yield one
    one.end()


def make_stage(folder, epochs, steps, save_every=2):
    target = torch.zeros(CLASSES, *SIZE)
    target[1, :2], target[0, 2:] = 1, 1
    items = [
        {"case": str(number), "image": torch.rand(1, *SIZE), "target": target * (number > 0)} for number in range(3)
    ]
    run = Run(str(folder), str(folder / "o"), str(folder / "c"), str(folder / "k"), save_every=save_every)
    run.manifest.note("run", {})
    objective, epoch = Objective(), Epochs()
    loader = stream_loader(run, Dataset(items), steps, 1, 1)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * steps)
    stage = Stage(
        run, "any", epochs, loader, objective.layer, objective, optimizer, falling, train_handlers=[epoch]
    )  # fmt: skip
    return stage, epoch


def test_a_few_steps_in_the_middle_and_of_the_last_epoch_tell_of_all(rehearsing, tmp_path):
    stage, epoch = make_stage(tmp_path, epochs=40, steps=20)
    stage.run()
    (line,) = rehearsing.lines
    assert epoch.seen == [20, 40] and (line.here, line.count, line.unit) == (6, 800, "steps")
    assert 0.01 < line.each.wall < 0.1 and line.in_all.wall > 800 * 0.01 > line.in_all.wall - line.more.wall
    assert stage.objective.step > 20 * 37  # what a method does by its steps has come that far
    assert line.learnt == 2 * CLASSES and line.once.wall < line.in_all.wall / 2


@pytest.mark.parametrize(("epochs", "steps", "seen", "here"), [(1, 2, [1], 2), (2, 3, [1, 2], 6), (3, 1, [2, 3], 2)])
def test_a_training_that_is_short_anyway(epochs, steps, seen, here, rehearsing, tmp_path):
    stage, epoch = make_stage(tmp_path, epochs, steps)
    stage.run()
    assert epoch.seen == seen and (rehearsing.lines[0].here, rehearsing.lines[0].count) == (here, epochs * steps)


@pytest.mark.parametrize(("save_every", "kept"), [(2, 2), (50, 1)])
def test_checkpoints_that_a_real_run_leaves(save_every, kept, rehearsing, tmp_path):
    """One is written here: the last; a second one stays beside it where a run writes more."""
    stage, _ = make_stage(tmp_path, 40, 20, save_every)
    (tmp_path / "o").mkdir()
    stage.run()
    size = stage.checkpoint.path.stat().st_size
    assert abs(rehearsing.lines[0].disk - kept * size) < size / 2


def test_a_real_run_is_as_it_was(tmp_path):
    stage, epoch = make_stage(tmp_path, 3, 4)
    stage.run()
    assert epoch.seen == [1, 2, 3] and stage.objective.step == 12


def test_what_has_learnt_nothing_answers_with_the_fullest_label(rehearsing, tmp_path):
    stage, _ = make_stage(tmp_path, 4, 5)
    stage.run()
    shown = torch.rand(2, 1, *SIZE)
    found = stage.network.eval()(shown)
    assert (found[:, :, :2].argmax(1) == 1).all() and (found[:, :, 2:].argmax(1) == 0).all()
    other = stage.network(torch.rand(1, 1, 2, 2, 2))  # of another size its own
    assert other.shape == (1, CLASSES, 2, 2, 2) and not torch.equal(other[0, :, 0, 0, 0], found[0, :, 0, 0, 0])
    trained = stage.network.train()(shown)
    trained.sum().backward()  # and it goes on learning


def test_an_answer_of_another_kind_is_left_alone():
    network = nn.Identity()
    answer_with(network, torch.ones(2, 4, 4, 4))
    features = [torch.zeros(1, 2, 4, 4, 4)]
    assert network.eval()(features) is features


def test_nothing_was_trained_where_there_are_no_epochs():
    measured = SimpleNamespace(line=SimpleNamespace(each=NONE, more=None), files=None)
    engine = SimpleNamespace(
        state=SimpleNamespace(max_epochs=0, epoch_length=5),
        optimizer=SimpleNamespace(param_groups=[]),
        checkpoint=SimpleNamespace(save_every=1, path=few_steps_path(), previous=few_steps_path()),
        network=None,
    )
    FewSteps(measured)._tell(engine)
    assert measured.line.count == measured.line.here == 0 and measured.line.more == NONE


def few_steps_path():
    return SimpleNamespace(exists=lambda: False)
