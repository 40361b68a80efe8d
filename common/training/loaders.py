"""Data loaders of a stage: its batches, drawn by seeded streams and shared by the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monai.data import DataLoader, Dataset, DistributedSampler

from ..run.run import Run
from .sampling import StreamSampler, TwoStreamSampler


def stream_loader(run: Run, dataset: Dataset, num_samples: int, batch_size: int, stream: int) -> DataLoader:
    """Return a loader of `num_samples` cases an epoch; every case comes once before any comes again.

    Args:
        stream: number of the stage's own stream of cases, added to the run's seed.
    """
    sampler = StreamSampler(dataset, num_samples, seed=run.seed + stream, num_replicas=run.world_size, rank=run.rank)
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=run.num_workers)


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
    batch_size = labeled_batch + unlabeled_batch
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=run.num_workers)


def scored_loader(run: Run, dataset: Dataset) -> DataLoader:
    """Return a loader of single cases in their order, each process its share."""
    sampler = None
    if run.world_size > 1:
        sampler = DistributedSampler(dataset, num_replicas=run.world_size, rank=run.rank, shuffle=False)
    return DataLoader(dataset, batch_size=1, sampler=sampler)
