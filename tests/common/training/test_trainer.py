from __future__ import annotations

import os

import pytest
import torch
from ignite.engine import Events
from torch import nn

from common.errors import InputError
from common.files.tensor_files import load_tensors
from support.networks.tiny_trainer import Objective, make_trainer


def state_of(trainer):
    """All that a run depends on and leaves, flat: name -> tensor or value."""
    flat = {}

    def walk(name, value):
        if isinstance(value, dict):
            for key, child in value.items():
                walk(f"{name}/{key}", child)
        elif isinstance(value, (list, tuple)):
            for key, child in enumerate(value):
                walk(f"{name}/{key}", child)
        else:
            flat[name] = value

    walk("", trainer.training_state())
    return flat


def assert_equal_states(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        same = torch.equal(value, second[name]) if torch.is_tensor(value) else value == second[name]
        assert same, name


class Kill:
    """Handler that ends the run as a kill would, at an event of an epoch."""

    def __init__(self, epoch, event=Events.ITERATION_COMPLETED):
        self.epoch, self.event = epoch, event

    def attach(self, engine):
        engine.add_event_handler(self.event, self.kill)

    def kill(self, engine):
        if engine.state.epoch == self.epoch:
            raise KeyboardInterrupt("killed")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trainer = make_trainer(tmp_path_factory.mktemp("whole"))
    trainer.run()
    return state_of(trainer)


@pytest.mark.parametrize("event", [Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED])
def test_four_epochs_equal_two_and_a_kill_and_the_rest_bit_for_bit(tmp_path, uninterrupted, event):
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, extra=[Kill(3, event)]).run()
    torch.rand(7)  # the new process starts with other random numbers
    resumed = make_trainer(tmp_path, resume=True)
    with torch.no_grad():
        for parameter in resumed.objective.parameters():
            parameter.zero_()
    resumed.run()
    assert_equal_states(state_of(resumed), uninterrupted)
    assert len(uninterrupted) > 40 and any("history" in name for name in uninterrupted)


def test_two_kills_are_as_good_as_none(tmp_path, uninterrupted):
    for epoch in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            make_trainer(tmp_path, resume=epoch > 2, extra=[Kill(epoch)]).run()
    resumed = make_trainer(tmp_path, resume=True)
    resumed.run()
    assert_equal_states(state_of(resumed), uninterrupted)


def test_another_seed_is_another_run(tmp_path, uninterrupted):
    trainer = make_trainer(tmp_path, seed=1)
    trainer.run()
    assert not torch.equal(
        state_of(trainer)["/objective/general.0.weight"], uninterrupted["/objective/general.0.weight"]
    )


def test_a_finished_stage_runs_nothing_but_brings_its_weights(tmp_path, uninterrupted):
    make_trainer(tmp_path).run()
    again = make_trainer(tmp_path, resume=True, extra=[Kill(4), Kill(5)])
    again.run()
    assert_equal_states(state_of(again), uninterrupted)


def test_without_resume_a_checkpoint_is_not_read(tmp_path, uninterrupted):
    (tmp_path / "train.pt").write_bytes(b"rubbish")
    trainer = make_trainer(tmp_path)
    trainer.run()
    assert_equal_states(state_of(trainer), uninterrupted)


def test_a_corrupted_checkpoint_falls_back_to_the_one_before_with_a_warning(tmp_path, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, extra=[Kill(4)]).run()
    latest = tmp_path / "train.pt"
    assert load_tensors(latest)["epoch"] == 3
    latest.write_bytes(latest.read_bytes()[:-500])
    resumed = make_trainer(tmp_path, resume=True)
    with pytest.warns(UserWarning, match=r"train\.pt.*going on from train\.pt\.previous, epoch 2"):
        resumed.run()
    assert_equal_states(state_of(resumed), uninterrupted)


def test_a_kill_between_the_two_renames_loses_one_epoch_at_most(tmp_path, uninterrupted, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, extra=[Kill(3)]).run()
    os.replace(tmp_path / "train.pt", tmp_path / "train.pt.previous")
    resumed = make_trainer(tmp_path, resume=True)
    resumed.run()
    assert_equal_states(state_of(resumed), uninterrupted)


def test_two_corrupted_checkpoints_are_an_error_that_names_both(tmp_path):
    for name in ("train.pt", "train.pt.previous"):
        (tmp_path / name).write_bytes(b"rubbish")
    with pytest.raises(InputError) as error:
        make_trainer(tmp_path, resume=True).run()
    assert [line.split(":")[0] for line in error.value.problems] == [
        str(tmp_path / "train.pt"),
        str(tmp_path / "train.pt.previous"),
    ]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    make_trainer(tmp_path, epochs=1).run()
    with pytest.raises(InputError, match=r"train\.pt: seed is 0; wanted 5"):
        make_trainer(tmp_path, resume=True, seed=5).run()
    torch.save({"weight": torch.ones(1)}, tmp_path / "train.pt")
    with pytest.raises(InputError, match="stage is None; wanted 'train'"):
        make_trainer(tmp_path, resume=True).run()


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    make_trainer(tmp_path, epochs=1).run()
    other = Objective()
    other.general[0] = nn.Conv3d(1, 3, 5, padding=2)
    with pytest.raises(InputError, match=r"train\.pt: .*size mismatch for general\.0\.weight.* wanted what this"):
        make_trainer(tmp_path, resume=True, objective=other).run()


def test_nothing_to_go_on_from_starts_at_the_beginning(tmp_path, uninterrupted):
    trainer = make_trainer(tmp_path, resume=True)
    trainer.run()
    assert_equal_states(state_of(trainer), uninterrupted)


def test_save_every_writes_the_last_epoch_too(tmp_path):
    trainer = make_trainer(tmp_path, epochs=3)
    trainer.checkpoint.save_every = 2
    seen = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append((tmp_path / "train.pt").exists()))
    trainer.run()
    assert seen == [False, True, True] and load_tensors(tmp_path / "train.pt")["epoch"] == 3


def test_a_nan_loss_stops_with_the_cases_and_leaves_weights_and_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path, nan_case=2)
    before = {}

    @trainer.on(Events.ITERATION_STARTED)
    def remember(engine):
        before.clear()
        before.update({name: value.clone() for name, value in engine.objective.state_dict().items()})

    with pytest.raises(RuntimeError, match=r"loss, .*not finite in epoch 1 for case .*case_2"):
        trainer.run()
    for name, value in trainer.objective.state_dict().items():
        assert torch.equal(value, before[name]) and value.isfinite().all()
    assert not (tmp_path / "train.pt").exists()


class Poisoned(Objective):
    """Its loss is no number in one epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch, self.calls = epoch, 0

    def forward(self, batch):
        losses, self.calls = super().forward(batch), self.calls + 1
        return losses | {"loss": losses["loss"] * (float("nan") if self.calls == 3 * self.epoch else 1)}


def test_a_nan_later_on_keeps_the_last_good_checkpoint_which_can_be_gone_on_from(tmp_path, uninterrupted):
    torch.manual_seed(0)
    trainer = make_trainer(tmp_path, objective=Poisoned(epoch=3))
    cases = []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: cases.append(engine.state.batch["case"]))
    with pytest.raises(RuntimeError) as error:
        trainer.run()
    where = f"loss, gradient not finite in epoch 3 for case {', '.join(cases[-1])}; what has been saved before is kept"
    assert len(cases) == 9 and str(error.value).startswith(where)
    kept = load_tensors(tmp_path / "train.pt")
    assert kept["epoch"] == 2 and all(value.isfinite().all() for value in kept["objective"].values())
    resumed = make_trainer(tmp_path, resume=True)
    resumed.run()
    assert_equal_states(state_of(resumed), uninterrupted)


class SteepObjective(nn.Module):
    """A finite loss whose gradient is not: the square root at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return {"loss": self.weight.abs().sqrt().sum()}


@pytest.mark.parametrize("clip_norm", [5.0, None])
def test_a_gradient_that_is_not_finite_stops_as_well(tmp_path, clip_norm):
    trainer = make_trainer(tmp_path, objective=SteepObjective(), clip_norm=clip_norm)
    with pytest.raises(RuntimeError, match="gradient not finite"):
        trainer.run()
    assert trainer.objective.weight.item() == 0


def test_gradients_are_clipped(tmp_path):
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4))

        def forward(self, batch):
            return {"loss": 100 * self.weight.sum()}

    trainer = make_trainer(tmp_path, objective=Linear(), clip_norm=0.5)
    norms = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: norms.append(engine.objective.weight.grad.norm().item())
    )
    trainer.run()
    assert norms == pytest.approx([0.5] * 12, abs=1e-4)


def test_objectives_get_plain_tensors_and_losses_are_logged(tmp_path):
    kinds = set()

    class Look(Objective):
        def forward(self, batch):
            kinds.add(type(batch["image"]))
            return super().forward(batch)

    trainer = make_trainer(tmp_path, epochs=1, objective=Look())
    trainer.run()
    assert kinds == {torch.Tensor}
    assert set(trainer.state.losses) == {"loss", "general", "medical", "weight_gap"}
    assert "weight_gap" in trainer.state.metrics


def test_amp_is_bfloat16_autocast_and_close_to_float32(tmp_path):
    ends, kinds = [], set()

    class Look(Objective):
        def forward(self, batch):
            kinds.add(self.general[0](batch["image"]).dtype)
            return super().forward(batch)

    for amp in (False, True):
        trainer = make_trainer(tmp_path, epochs=1, objective=(torch.manual_seed(0), Look())[1])
        trainer.bfloat16 = amp
        trainer.run()
        ends.append(trainer.state.losses["loss"])
    assert kinds == {torch.float32, torch.bfloat16}
    assert ends[1] == pytest.approx(ends[0], rel=0.1)
