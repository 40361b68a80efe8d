"""The trainer in a federation: it is run again and again, and may sit a round out."""

from __future__ import annotations

import torch

from support.networks.tiny_trainer import Objective, make_trainer


def test_a_further_round_goes_on_with_the_weights_it_is_given_and_tells_the_objective(tmp_path):
    class Told(Objective):
        rounds = 0

        def begin_round(self):
            self.rounds += 1
            self.seen = next(self.general.parameters()).detach().clone()

    objective = Told()
    trainer = make_trainer(tmp_path, resume=True, epochs=2, objective=objective)
    trainer.run()
    assert objective.rounds == 0 and trainer.state.epoch == 2 and (tmp_path / "train.pt").is_file()
    with torch.no_grad():  # as a federated client does: other weights, and epochs beyond those that are done
        next(trainer.network.parameters()).fill_(0.25)
    trainer.state.max_epochs = 3
    trainer.run()
    assert objective.rounds == 1 and bool((objective.seen == 0.25).all())  # not those of the checkpoint
    assert trainer.state.epoch == 3 and trainer.state.iteration == 9


def test_who_sits_a_round_out_ends_with_the_schedule_of_the_others(tmp_path):
    class Counting(Objective):
        def __init__(self):
            super().__init__()
            self.register_buffer("step", torch.zeros((), dtype=torch.long))
            self.told = 0

        def begin_round(self):
            self.told += 1

    trained, rested = (make_trainer(tmp_path / name, epochs=2, objective=Counting()) for name in ("a", "b"))
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    trained.run()
    rested.sit_out(2)
    assert rested.state.epoch == trained.state.epoch == 2 and rested.state.iteration == trained.state.iteration == 6
    assert rested.lr_scheduler.get_last_lr() == trained.lr_scheduler.get_last_lr()
    assert int(rested.objective.step) == 6
    rested.state.max_epochs = 3
    rested.run()
    assert rested.state.epoch == 3 and rested.objective.told == 1
