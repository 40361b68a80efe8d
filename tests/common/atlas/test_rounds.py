from __future__ import annotations

from types import SimpleNamespace

import pytest

from common.atlas.rounds import LabellingRounds


class Labeller:
    round = 1

    def label(self, number):
        self.round = number

    def training_indices(self):
        return [self.round]


def rounds_of(epochs, **options):
    """Return the round of labels in each epoch of a training whose trainer knows `max_epochs` at that time."""
    labeller, sampler, seen = Labeller(), SimpleNamespace(subset=None), []
    loader = SimpleNamespace(sampler=sampler)
    handler = LabellingRounds(labeller, **options)
    for epoch, max_epochs in enumerate(epochs, start=1):
        state = SimpleNamespace(epoch=epoch, max_epochs=max_epochs)
        handler.start_round(SimpleNamespace(state=state, data_loader=loader))
        seen.append(labeller.round)
        assert sampler.subset == [labeller.round]
    return seen


def test_epochs_are_divided_into_rounds():
    assert rounds_of([6] * 6, rounds=2) == [1, 1, 1, 2, 2, 2]
    assert rounds_of([5] * 5, rounds=2) == [1, 1, 1, 2, 2]


def test_a_federated_training_is_divided_as_a_whole_whatever_the_trainer_knows():
    """There the trainer's max_epochs is that of the present federated round."""
    known = [1, 2, 3, 4, 5, 6]
    assert rounds_of(known, rounds=2, total_epochs=6) == [1, 1, 1, 2, 2, 2]
    assert rounds_of(known, rounds=2) != [1, 1, 1, 2, 2, 2]


def test_no_round_is_refused():
    with pytest.raises(ValueError, match="wanted at least 1"):
        LabellingRounds(Labeller(), rounds=0)
