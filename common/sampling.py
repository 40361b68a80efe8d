"""Which cases an epoch sees: a seeded endless stream, cut into epochs of a fixed length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Sized

import numpy as np
from torch.utils.data import DistributedSampler


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
        ValueError: a count below 1, or a rank outside the replicas.
    """

    def __init__(self, dataset: Sized, num_samples: int, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        if len(dataset) < 1 or num_samples < 1:
            raise ValueError(f"found {len(dataset)} cases and num_samples {num_samples}; wanted at least 1 of each")
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
        indices = np.arange(len(self.dataset)) if self._subset is None else np.asarray(self._subset)
        first = self.epoch * self.total_size + self.rank
        block, order = -1, indices
        for position in range(first, first + self.total_size, self.num_replicas):
            if position // len(indices) != block:
                block = position // len(indices)
                order = np.random.default_rng([self.seed, block]).permutation(indices)
            yield int(order[position % len(indices)])
