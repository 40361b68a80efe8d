"""Data loaders of a stage: its batches, drawn by seeded streams and shared by the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.data import DataLoader, Dataset, DistributedSampler
from torch.utils.data import Sampler

from ..run.run import Run
from .sampling import StreamSampler, TwoStreamSampler


def stream_loader(run: Run, dataset: Dataset, num_samples: int, batch_size: int, stream: int) -> DataLoader:
    """Return a loader of `num_samples` cases an epoch; every case comes once before any comes again.

    Args:
        stream: number of the stage's own stream of cases, added to the run's seed.
    """
    sampler = StreamSampler(dataset, num_samples, seed=run.seed + stream, num_replicas=run.world_size, rank=run.rank)
    return _loader(dataset, batch_size, sampler, run.num_workers)


def two_stream_loader(
    run: Run,
    dataset: Dataset,
    labeled: Sequence[int] | Callable[[], Sequence[int]],
    num_batches: int,
    labeled_batch: int,
    unlabeled_batch: int,
    stream: int,
) -> DataLoader:
    """Return a loader whose batches hold labelled items first and then unlabelled ones, see `TwoStreamSampler`.

    Args:
        stream: number of the stage's own streams of cases, added to the run's seed.
    """
    sampler = TwoStreamSampler(
        dataset, labeled, num_batches, labeled_batch, unlabeled_batch,
        seed=run.seed + stream, num_replicas=run.world_size, rank=run.rank,
    )  # fmt: skip
    return _loader(dataset, labeled_batch + unlabeled_batch, sampler, run.num_workers)


def scored_loader(run: Run, dataset: Dataset) -> DataLoader:
    """Return a loader of single cases in their order, each process its share."""
    sampler = None
    if run.world_size > 1:
        sampler = DistributedSampler(dataset, num_replicas=run.world_size, rank=run.rank, shuffle=False)
    return _loader(dataset, 1, sampler, 0)


def _loader(dataset: Dataset, batch_size: int, sampler: Sampler | None, num_workers: int) -> DataLoader:
    # MONAI's loader seeds torch anew when it is built: the weights of a network that is built next would hang on that
    with torch.random.fork_rng(devices=[]):
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers)
