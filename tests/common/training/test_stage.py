from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.transforms import Compose
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, OneCycleLR, PolynomialLR

from common.errors import InputError
from common.files.tensor_files import atomic_save, load_tensors
from common.grid.grid import make_grid
from common.learning.schedules import WarmCosineLR
from common.run.identity import differences
from common.run.run import Run
from common.training.augmentation import Augmentation
from common.training.plan import Plan
from common.training.stage import Stage


class Objective(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Linear(2, 1)
        self.weight = 0.5

    def forward(self, batch):
        return {"loss": self.network(batch["image"]).square().mean()}


class Cohort:
    def __init__(self):
        self.checked = 0
        self.settings = {"num_labeled": 4}
        self.grid = make_grid((8, 8, 8), (1, 1, 1), (0, 1), intensity_range=[(-160, 240), None])

    def check(self):
        self.checked += 1

    def describe_plan(self):
        self.kept = {1: {1: 0.5}}
        return ["4 scans"]


class OneStage(Plan):
    def __init__(self, run, cohort, first):
        super().__init__(run, cohort, first=first)
        self.first = first

    def stages(self):
        self.first.run()


def make_run(folder, **settings):
    return Run(str(folder), str(folder / "eval"), str(folder / "models"), str(folder / "cache"), **settings)


def make(run, name, plan=None, schedule=None, **options):
    torch.manual_seed(0)
    objective = Objective()
    optimizer = SGD(objective.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(Dataset([{"image": torch.ones(2)}] * 4), batch_size=2)
    options = {"max_epochs": 2} | options
    schedule = (
        PolynomialLR(optimizer, total_iters=4) if schedule is None else schedule(optimizer, 2 * options["max_epochs"])
    )
    return Stage(run, name, train_data_loader=loader, network=objective.network, objective=objective,
                 optimizer=optimizer, lr_scheduler=schedule, plan=plan, **options)  # fmt: skip


def built(folder, **settings):
    run = make_run(folder, **settings)
    plan = OneStage(run, Cohort(), make(run, "first"))
    return plan, make(run, "train", plan)


def test_building_does_nothing_and_running_the_last_does_what_comes_before_once(tmp_path):
    plan, last = built(tmp_path)
    assert plan.cohort.checked == 0 and not (tmp_path / "models").exists()
    last.run()
    assert plan.cohort.checked == 1 and plan.first.state.epoch == last.state.epoch == 2
    written = {path.name.removesuffix(".previous") for path in (tmp_path / "models").iterdir()}
    assert written == {"first.checkpoint.pt", "train.checkpoint.pt", "run.lock"}  # a client may let it go on
    last.state.max_epochs = 3  # a further round of a federated training
    last.run()
    assert plan.cohort.checked == 1 and last.state.epoch == 3


def test_run_json_says_what_the_parts_were_built_with_and_cost(tmp_path):
    _, last = built(tmp_path)
    last.run()
    told = json.loads((tmp_path / "eval" / "run.json").read_text())
    assert told["config"]["cohort"] == {"num_labeled": 4} and told["config"]["run"]["seed"] == 0
    train = told["config"]["train"]
    assert train["max_epochs"] == 2 and train["epoch_length"] == 2 and train["batch_size"] == 2
    assert train["optimizer"]["name"] == "SGD" and train["optimizer"]["lr"] == 0.1
    assert list(told["stages"]) == ["first", "train"] and told["kept_by_level"] == {"1": {"1": 0.5}}
    assert told["intensity_range"] == [[-160, 240], None]


def test_a_resumed_run_does_not_train_again(tmp_path):
    _, last = built(tmp_path)
    last.run()
    plan, again = built(tmp_path, resume="1")
    again.run()
    assert all(a.equal(b) for a, b in zip(again.network.parameters(), last.network.parameters(), strict=True))
    assert plan.first.state.iteration == 4 and again.state.iteration == 4
    _, anew = built(tmp_path)
    anew.run()
    assert anew.state.iteration == 4


def polynomial(optimizer, steps):
    return PolynomialLR(optimizer, total_iters=steps, power=0.9)


def one_cycle(optimizer, steps):
    return OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)


def restarts(optimizer, steps):
    return CosineAnnealingWarmRestarts(optimizer, T_0=max(1, steps // 2))


def rates_of(stage) -> list[float]:
    """Return the rate and the momentum of each step of a run."""
    used = []
    hook = stage.optimizer.register_step_pre_hook(
        lambda optimizer, *_: used.append([optimizer.param_groups[0][key] for key in ("lr", "momentum")])
    )
    stage.run()
    hook.remove()
    return used


@pytest.mark.parametrize("schedule", [polynomial, WarmCosineLR, one_cycle, restarts])
def test_a_run_resumed_with_more_epochs_goes_on_by_the_schedule_of_its_new_length(tmp_path, schedule):
    def stage(folder, epochs, **settings):
        return make(make_run(tmp_path / folder, **settings), "train", schedule=schedule, max_epochs=epochs)

    wanted = rates_of(stage("whole", 4))  # two steps an epoch
    if schedule is polynomial:
        assert [rate for rate, _ in wanted] == pytest.approx([0.1 * (1 - step / 8) ** 0.9 for step in range(8)])
    assert rates_of(stage("resumed", 2)) != wanted[:4]
    longer = stage("resumed", 4, resume=True)
    assert rates_of(longer) == wanted[4:] and longer.lr_scheduler.last_epoch == 8
    assert rates_of(stage("resumed", 4, resume=True)) == []
    assert rates_of(stage("resumed", 3, resume=True)) == []  # shorter: nothing is left to be done


def test_a_clients_handlers_come_last_and_disabled_ones_are_left_out(tmp_path):
    order = []

    def noting(name):
        return SimpleNamespace(
            attach=lambda engine: engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: order.append(name))
        )

    stage = make(make_run(tmp_path), "train", train_handlers=[noting("method"), None, [noting("client")]])
    stage.add_event_handler(Events.EPOCH_COMPLETED, lambda: order.append("after all"))
    stage.run()
    assert order == ["method", "client", "after all"] * 2


@pytest.mark.parametrize("word", ["two", 2.5, -1])
def test_epochs_that_are_none(tmp_path, word):
    with pytest.raises(InputError, match=f"epochs is {word!r}; wanted a whole number of 0 or more"):
        make(make_run(tmp_path), "train", max_epochs=word)


def test_every_checkpoint_says_its_run_and_that_of_another_is_refused(tmp_path, capsys):
    plan, last = built(tmp_path)
    last.run()
    path = tmp_path / "models" / "train.checkpoint.pt"
    content = load_tensors(path)
    assert content["run"] == plan.run.id == json.loads((tmp_path / "eval" / "run.json").read_text())["id"]
    assert plan.run.kept == ("train", 2, 2, path)
    atomic_save({**content, "run": "0123456789ab"}, path)
    with pytest.raises(InputError, match=rf"train.checkpoint.pt: is of run 0123456789ab; wanted {plan.run.id}"):
        built(tmp_path, resume=True)[1].run()
    del content["run"]  # of an earlier version
    atomic_save(content, path)
    capsys.readouterr()
    built(tmp_path, resume=True)[1].run()
    assert f"warning: {path} says no run, as it is of an earlier version; going on" in capsys.readouterr().out


def test_a_resumed_run_with_another_learning_rate_is_refused_before_anything_is_done(tmp_path):
    _, last = built(tmp_path)
    last.run()
    plan, again = built(tmp_path, resume=True)
    again.optimizer.defaults["lr"] = 0.5
    with pytest.raises(InputError, match=r"resume: config.train.optimizer.lr is 0.5, was 0.1; wanted"):
        again.run()
    assert plan.first.state.epoch == 0


def test_what_is_changed_at_random_is_a_setting(tmp_path):
    def said(**ranges):
        stage = make(make_run(tmp_path), "train")
        steps = [Compose([]), Augmentation(["label"], (1.0, 1.0, 2.0), **ranges)]
        stage.data_loader.dataset.transform = Compose(steps)
        return stage.settings["augmentation"]

    assert make(make_run(tmp_path), "train").settings["augmentation"] is None
    assert said()["rotate"] == 0.5 and "maps" not in said()
    first, second = ({"config": {"train": {"augmentation": one}}} for one in (said(), said(blur=0.0)))
    assert differences(first, second) == ["config.train.augmentation.blur is 0.0, was 1.0"]
