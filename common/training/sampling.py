"""Which cases an epoch sees: seeded endless streams, cut into epochs of a fixed length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized

import numpy as np
from torch.utils.data import DistributedSampler


def stream(indices: Sequence[int], seed: Sequence[int], positions: Iterable[int]) -> Iterator[int]:
    """Yield the elements of an endless stream at `positions`: p is element p % n of permutation p // n of `indices`.

    Permutation b is drawn from (*seed, b), so that any position can be had without those before it.
    """
    block, order = -1, np.asarray(indices)
    for position in positions:
        if position // len(indices) != block:
            block = position // len(indices)
            order = np.random.default_rng([*seed, block]).permutation(np.asarray(indices))
        yield int(order[position % len(indices)])


class StreamSampler(DistributedSampler):
    """Yield the indices of epoch e: its cut of an endless stream of seeded permutations of all indices.

    Position p of the stream is element p % n of permutation p // n, so that every case comes once before any comes
    again, across the borders of epochs too, and epoch e can be produced without the epochs before it: a resumed run
    sees what an uninterrupted one would have seen. Being a DistributedSampler, MONAI's Workflow calls `set_epoch` at
    the start of each epoch. Ranks take every `num_replicas`-th position, so the union over ranks is the same stream for
    any number of them.

    Args:
        dataset: only its length is used.
        num_samples: samples of one epoch over all ranks, rounded up to a multiple of `num_replicas`; smaller or larger
            than the data set.
        seed: of the stream, equal on all ranks.
        num_replicas: number of ranks.
        rank: this process.

    Raises:
        ValueError: a count below 1, or a rank outside the replicas; no case, when an epoch begins.
    """

    def __init__(self, dataset: Sized, num_samples: int, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}; wanted at least 1")
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.num_samples = math.ceil(num_samples / num_replicas)
        self.total_size = self.num_samples * num_replicas
        self._subset: list[int] | None = None

    @property
    def subset(self) -> list[int] | None:
        """Indices that the stream is restricted to from the next epoch on; None for all. Equal on all ranks."""
        return self._subset

    @subset.setter
    def subset(self, indices: Sequence[int] | None) -> None:
        if indices is not None:
            indices = [int(index) for index in indices]
            if not indices or min(indices) < 0 or max(indices) >= len(self.dataset):
                raise ValueError(f"subset {indices}; wanted one or more indices from 0 to {len(self.dataset) - 1}")
        self._subset = indices

    def __len__(self) -> int:
        """Samples of this rank in one epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        indices = range(_count(self.dataset)) if self._subset is None else self._subset
        first = self.epoch * self.total_size + self.rank
        return stream(indices, [self.seed], range(first, first + self.total_size, self.num_replicas))


class TwoStreamSampler(DistributedSampler):
    """Yield groups of `labeled_batch` labelled and then `unlabeled_batch` unlabelled indices.

    Two independent endless streams (see `StreamSampler`), so that few labelled cases come again and again beside many
    unlabelled ones. A data loader without a sampler of batches and with batch_size = labeled_batch + unlabeled_batch
    gets one group a batch. Ranks take every `num_replicas`-th group. Where one kind has no cases, the other fills its
    places.

    Args:
        dataset: only its length is used.
        labeled: indices of the labelled cases, or a function that returns them when an epoch begins; all others are
            unlabelled.
        num_batches: groups of one epoch over all ranks, rounded up to a multiple of `num_replicas`.
        labeled_batch: labelled indices of a group.
        unlabeled_batch: unlabelled indices of a group; 0 for supervised learning.
        seed: of the streams, equal on all ranks.
        num_replicas: number of ranks.
        rank: this process.

    Raises:
        ValueError: a count that is too small or a rank outside the replicas; when an epoch begins, no case, or an index
            outside the data set or given twice.
    """

    def __init__(
        self,
        dataset: Sized,
        labeled: Sequence[int] | Callable[[], Sequence[int]],
        num_batches: int,
        labeled_batch: int = 1,
        unlabeled_batch: int = 1,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if num_batches < 1 or labeled_batch < 1 or unlabeled_batch < 0:
            raise ValueError(
                f"num_batches {num_batches}, labeled_batch {labeled_batch}, unlabeled_batch {unlabeled_batch}; wanted "
                "at least 1 of each, and 0 of the last"
            )
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.labeled, self.labeled_batch, self.unlabeled_batch = labeled, labeled_batch, unlabeled_batch
        self.num_groups = math.ceil(num_batches / num_replicas)
        self.num_samples = self.num_groups * (labeled_batch + unlabeled_batch)
        self.total_size = self.num_samples * num_replicas

    def __len__(self) -> int:
        """Samples of this rank in one epoch."""
        return self.num_samples

    @property
    def streams(self) -> tuple[tuple[list[int], int], tuple[list[int], int]]:
        """The indices of both streams, labelled first, each with its share of a group."""
        labeled = self.labeled() if callable(self.labeled) else self.labeled
        count, chosen = _count(self.dataset), {int(index) for index in labeled}
        if len(chosen) != len(labeled) or not chosen <= set(range(count)):
            raise ValueError(f"labeled is {list(labeled)}; wanted different indices from 0 to {count - 1}")
        unlabeled = [index for index in range(count) if index not in chosen]
        return (sorted(chosen) or unlabeled, self.labeled_batch), (unlabeled or sorted(chosen), self.unlabeled_batch)

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.num_groups * self.num_replicas + self.rank
        groups = range(first, first + self.num_groups * self.num_replicas, self.num_replicas)
        drawn = [
            (stream(indices, [self.seed, kind], _places(groups, size)), size)
            for kind, (indices, size) in enumerate(self.streams, start=1)
        ]
        for _ in groups:
            for indices, size in drawn:
                yield from itertools.islice(indices, size)


def _count(dataset: Sized) -> int:
    """Return the number of cases, which is known once they are loaded."""
    if len(dataset) < 1:
        raise ValueError("found no case; wanted at least 1")
    return len(dataset)


def _places(groups: Iterable[int], size: int) -> Iterator[int]:
    """Yield the positions in a stream that groups of `size` take."""
    for group in groups:
        yield from range(group * size, (group + 1) * size)
