from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from common.sampling import StreamSampler


class Numbers(Dataset):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index)


def epochs(sampler: StreamSampler, *numbers: int) -> list[list[int]]:
    drawn = []
    for number in numbers:
        sampler.set_epoch(number)
        drawn.append(list(sampler))
    return drawn


@pytest.mark.parametrize("num_samples", [1, 3, 7, 20])
def test_every_case_once_before_any_twice(num_samples):
    sampler = StreamSampler(range(7), num_samples)
    drawn = epochs(sampler, *range(21))
    assert all(len(epoch) == num_samples == len(sampler) for epoch in drawn)
    stream = [index for epoch in drawn for index in epoch]
    blocks = [stream[start : start + 7] for start in range(0, len(stream), 7)]
    assert all(sorted(block) == list(range(7)) for block in blocks)
    assert len({tuple(block) for block in blocks}) == (1 if len(blocks) == 1 else len(blocks))


def test_an_epoch_needs_no_epochs_before_it():
    sampler = StreamSampler(range(7), 5, seed=3)
    straight = epochs(sampler, 1, 2, 3, 4)
    assert epochs(StreamSampler(range(7), 5, seed=3), 3, 4) == straight[2:]
    assert epochs(sampler, 3, 3) == [straight[2]] * 2
    assert epochs(StreamSampler(range(7), 5, seed=4), 1, 2, 3, 4) != straight


@pytest.mark.parametrize("replicas", [2, 3])
def test_ranks_share_one_stream(replicas):
    alone = epochs(StreamSampler(range(11), 6), 0, 1, 2)
    ranks = [epochs(StreamSampler(range(11), 6, num_replicas=replicas, rank=r), 0, 1, 2) for r in range(replicas)]
    for number, epoch in enumerate(alone):
        for rank in range(replicas):
            assert ranks[rank][number] == epoch[rank::replicas]


def test_odd_counts_are_rounded_up_so_that_ranks_are_equally_long():
    samplers = [StreamSampler(range(5), 7, num_replicas=2, rank=rank) for rank in range(2)]
    assert [len(sampler) for sampler in samplers] == [4, 4]
    first, second = (epochs(sampler, 0, 1, 2, 3, 4) for sampler in samplers)
    counts = Counter(index for epoch in first + second for index in epoch)
    assert set(counts.values()) == {8}  # 40 positions of 5 cases: the ranks overlap nowhere


def test_subset():
    sampler = StreamSampler(range(10), 6)
    everything = epochs(sampler, 0)
    sampler.subset = [9, 2, 4]
    assert sampler.subset == [9, 2, 4]
    assert Counter(epochs(sampler, 5)[0]) == {9: 2, 2: 2, 4: 2}
    sampler.subset = None
    assert epochs(sampler, 0) == everything
    for wrong in ([], [10], [-1]):
        with pytest.raises(ValueError, match="wanted one or more indices from 0 to 9"):
            sampler.subset = wrong


def test_wrong_arguments():
    for length, num_samples in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match="wanted at least 1 of each"):
            StreamSampler(range(length), num_samples)
    with pytest.raises(ValueError, match="rank"):
        StreamSampler(range(4), 4, num_replicas=2, rank=2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_monai_trainer_sees_the_same_cases(num_workers):
    from ignite.engine import Events
    from monai.engines import Trainer

    def run(first: int, last: int) -> dict[int, list[int]]:
        dataset = Numbers(7)
        loader = DataLoader(dataset, batch_size=2, sampler=StreamSampler(dataset, 6, seed=1), num_workers=num_workers)
        seen: dict[int, list[int]] = {}

        def step(engine, batch):
            seen.setdefault(engine.state.epoch, []).extend(batch.tolist())

        trainer = Trainer(
            device=torch.device("cpu"),
            max_epochs=last,
            data_loader=loader,
            prepare_batch=lambda batch, *_: batch,
            iteration_update=step,
        )

        @trainer.on(Events.STARTED)
        def resume(engine):
            engine.state.epoch, engine.state.iteration = first, first * engine.state.epoch_length

        trainer.run()
        return seen

    straight = run(0, 4)
    assert sorted(straight) == [1, 2, 3, 4] and all(len(indices) == 6 for indices in straight.values())
    resumed = run(2, 4)
    assert resumed == {epoch: straight[epoch] for epoch in (3, 4)}
