"""The stages before the segmenter learns, as trainers: the classifier, ADA-SAM as a whole, the plain 2D network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import PolynomialLR
from torch.utils.data import DataLoader

from ..cohort import FewSlicesCohort
from ..common.run.run import Run
from ..common.training.loaders import two_stream_loader
from ..common.training.stage import Stage
from ..slice_model.ada_sam import AdaSam
from .objective import AdaptObjective
from .sight_objective import ClassifyObjective
from .slice_unet import SliceUNetObjective, SliceUNetTeacher
from .slices import SliceDataset


def classify(
    run: Run,
    network: AdaSam,
    cohort: FewSlicesCohort,
    slices: SliceDataset,
    max_epochs: int,
    epoch_length: int,
    batch: Sequence[int],
    lr: float,
    locate_weight: float = 0.0,
) -> Stage:
    """Return the trainer of the classifier alone, see `ClassifyObjective`; the rest as for `adapt`."""
    loader = _loader(run, slices, epoch_length, batch, stream=1)
    objective = ClassifyObjective(network, cohort.positive_share, locate_weight)
    optimizer = AdamW(objective.param_groups(lr), lr=lr)
    return _stage(run, "classify", max_epochs, loader, network.head, objective, optimizer)


def adapt(
    run: Run,
    network: AdaSam,
    cohort: FewSlicesCohort,
    slices: SliceDataset,
    max_epochs: int,
    epoch_length: int,
    batch: Sequence[int],
    lr: float,
    **objective: Any,
) -> Stage:
    """Return the trainer of all of ADA-SAM that learns, see `AdaptObjective`.

    Args:
        epoch_length: batches of an epoch, over all processes.
        batch: slices of a batch with and without a mask.
        lr: at the start; it falls to 0 as a polynomial.
        objective: weights and other options of `AdaptObjective`.
    """
    loader = _loader(run, slices, epoch_length, batch, stream=2)
    steps = max(1, max_epochs * len(loader))
    learnt = AdaptObjective(
        network, total_steps=steps, positive_share=cohort.positive_share, seed=run.seed, **objective
    )
    optimizer = AdamW(learnt.param_groups(lr), lr=lr)
    return _stage(run, "adapt", max_epochs, loader, network.head, learnt, optimizer)


def slice_unet(
    run: Run,
    teacher: SliceUNetTeacher,
    slices: SliceDataset,
    max_epochs: int,
    epoch_length: int,
    batch: Sequence[int],
    lr: float,
) -> Stage:
    """Return the trainer of the plain 2D network, see `SliceUNetObjective`; the rest as for `adapt`."""
    loader = _loader(run, slices.without_embeddings(), epoch_length, batch, stream=4)
    objective = SliceUNetObjective(teacher.network)
    optimizer = AdamW(objective.parameters(), lr=lr)
    return _stage(run, "slice_unet", max_epochs, loader, teacher.network, objective, optimizer)


def _loader(run: Run, slices: SliceDataset, epoch_length: int, batch: Sequence[int], stream: int) -> DataLoader:
    annotated = slices.table.annotated  # a function: no volume is loaded yet
    masked, others = batch
    return two_stream_loader(run, slices, annotated, epoch_length, masked, others, stream)


def _stage(
    run: Run,
    name: str,
    max_epochs: int,
    loader: DataLoader,
    network: nn.Module,
    objective: nn.Module,
    optimizer: AdamW,
) -> Stage:
    schedule = PolynomialLR(optimizer, total_iters=max_epochs * len(loader), power=0.9)
    return Stage(run, name, max_epochs, loader, network, objective, optimizer, schedule)
