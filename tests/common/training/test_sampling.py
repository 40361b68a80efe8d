from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from common.training.sampling import StreamSampler, TwoStreamSampler


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
    with pytest.raises(ValueError, match="num_samples is 0; wanted at least 1"):
        StreamSampler(range(4), 0)
    with pytest.raises(ValueError, match="found no case"):
        list(StreamSampler(range(0), 4))
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


def groups_of(sampler: TwoStreamSampler, size: int, *numbers: int) -> list[list[int]]:
    drawn = [index for epoch in epochs(sampler, *numbers) for index in epoch]
    return [drawn[start : start + size] for start in range(0, len(drawn), size)]


@pytest.mark.parametrize(("labeled_batch", "unlabeled_batch"), [(1, 1), (1, 3), (2, 1), (3, 2), (2, 0)])
def test_every_group_is_labelled_then_unlabelled(labeled_batch, unlabeled_batch):
    labeled = [5, 2]
    sampler = TwoStreamSampler(range(9), labeled, 7, labeled_batch, unlabeled_batch, seed=1)
    size = labeled_batch + unlabeled_batch
    assert len(sampler) == 7 * size
    groups = groups_of(sampler, size, *range(10))
    assert len(groups) == 70 and all(len(group) == size for group in groups)
    for group in groups:
        assert set(group[:labeled_batch]) <= set(labeled) and not set(group[labeled_batch:]) & set(labeled)
    # each of the two streams shows every case once before any comes again
    first = [index for group in groups for index in group[:labeled_batch]]
    second = [index for group in groups for index in group[labeled_batch:]]
    assert all(sorted(first[i : i + 2]) == [2, 5] for i in range(0, len(first) - 1, 2))
    whole = [second[i : i + 7] for i in range(0, len(second) - 6, 7)]
    assert all(sorted(block) == [0, 1, 3, 4, 6, 7, 8] for block in whole)
    assert len({tuple(block) for block in whole}) >= min(len(whole), 2)


def test_two_streams_need_no_epochs_before_them_and_follow_the_seed():
    straight = epochs(TwoStreamSampler(range(9), [0, 1, 2], 5, 2, 1, seed=3), 0, 1, 2, 3)
    assert epochs(TwoStreamSampler(range(9), [2, 0, 1], 5, 2, 1, seed=3), 2, 3) == straight[2:]
    assert epochs(TwoStreamSampler(range(9), [0, 1, 2], 5, 2, 1, seed=4), 0, 1, 2, 3) != straight
    labelled, unlabelled = (TwoStreamSampler(range(8), range(4), 8, seed=0) for _ in range(2))
    pairs = epochs(labelled, 0)[0]
    assert [index - 4 for index in pairs[1::2]] != pairs[::2]  # the streams are not one and the same
    assert epochs(unlabelled, 0)[0] == pairs


@pytest.mark.parametrize("replicas", [2, 3])
def test_ranks_take_whole_groups_of_one_stream(replicas):
    alone = groups_of(TwoStreamSampler(range(11), [3, 7], 6, 1, 2), 3, 0, 1, 2)
    for rank in range(replicas):
        own = TwoStreamSampler(range(11), [3, 7], 6, 1, 2, num_replicas=replicas, rank=rank)
        assert groups_of(own, 3, 0, 1, 2) == alone[rank::replicas]
    odd = [TwoStreamSampler(range(11), [3, 7], 7, 1, 2, num_replicas=2, rank=rank) for rank in range(2)]
    assert [len(sampler) for sampler in odd] == [12, 12]


def test_batches_of_a_data_loader_are_groups():
    dataset = Numbers(9)
    sampler = TwoStreamSampler(dataset, [8], 4, 1, 2)
    batches = [batch.tolist() for batch in DataLoader(dataset, batch_size=3, sampler=sampler)]
    assert len(batches) == 4 and all(batch[0] == 8 and 8 not in batch[1:] for batch in batches)


def test_where_all_are_labelled_they_fill_every_place():
    groups = groups_of(TwoStreamSampler(range(3), range(3), 6, 1, 1), 2, 0)
    assert {index for group in groups for index in group} == {0, 1, 2} and len(groups) == 6


def test_where_none_is_labelled_the_others_fill_every_place():
    groups = groups_of(TwoStreamSampler(range(3), [], 6, 2, 1), 3, 0)
    assert {index for group in groups for index in group} == {0, 1, 2} and len(groups) == 6


@pytest.mark.parametrize("wrong", [[3, 3], [9], [-1]])
def test_wrong_labelled_indices(wrong):
    with pytest.raises(ValueError, match="wanted different indices from 0 to 8"):
        list(TwoStreamSampler(range(9), wrong, 4))


def test_cases_and_labelled_indices_may_become_known_after_the_sampler_is_built():
    cases, labeled = [], []
    sampler = TwoStreamSampler(cases, lambda: labeled, 4)
    with pytest.raises(ValueError, match="found no case"):
        list(sampler)
    cases += range(9)
    labeled += [3, 5]
    assert list(sampler) == list(TwoStreamSampler(range(9), [3, 5], 4))


@pytest.mark.parametrize("counts", [(0, 1, 1), (4, 0, 1), (4, 1, -1)])
def test_wrong_counts_of_two_streams(counts):
    with pytest.raises(ValueError, match="wanted at least 1 of each, and 0 of the last"):
        TwoStreamSampler(range(9), [0], *counts)
    with pytest.raises(ValueError, match="rank"):
        TwoStreamSampler(range(4), [0], 4, num_replicas=2, rank=2)
