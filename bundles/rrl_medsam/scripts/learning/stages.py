"""The stages before the network learns from pseudo labels, as trainers: 1a distillation, 1b joint registration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.data import Dataset
from monai.transforms import Compose, EnsureTyped, RandAdjustContrastd, RandGaussianNoised
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from ..common.atlas.labeller import AtlasLabeller
from ..common.learning.distillation import FeatureDistillation
from ..common.run.run import Run
from ..common.training.loaders import stream_loader
from ..common.training.stage import Stage
from ..common.training.world_transform import RandWorldTransformd
from ..network import RRLMedSAMNetwork
from .objective import DistillationObjective, JointRegistrationObjective
from .teacher import AddTeacherd, SamTeacher
from .transforms import AddAlignedAtlasd


def distill_stage(
    run: Run,
    network: RRLMedSAMNetwork,
    distillation: FeatureDistillation,
    teacher: SamTeacher,
    images: Sequence[Any],
    **schedule: Any,
) -> Stage:
    """Return the trainer of 1a: the general encoder learns the teacher's features; see `_stage` for the schedule."""
    preprocessing = Compose(
        [
            AddTeacherd(teacher),
            RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.5)),
            RandGaussianNoised("image", prob=0.3, std=0.05),
            EnsureTyped("image", track_meta=False),
        ]
    )
    parameters = [*network.general_encoder.parameters(), *distillation.parameters()]
    objective = DistillationObjective(network, distillation)
    return _stage(run, "distill", 1, network, objective, parameters, Dataset(images, preprocessing), **schedule)


def register_stage(
    run: Run,
    network: RRLMedSAMNetwork,
    objective: JointRegistrationObjective,
    labeller: AtlasLabeller,
    images: Sequence[Any],
    **schedule: Any,
) -> Stage:
    """Return the trainer of 1b: registration and segmentation share an encoder; see `_stage` for the schedule."""
    keys = ["image", "moving", "moving_label", "inside"]
    preprocessing = Compose(
        [
            AddAlignedAtlasd(labeller),
            RandWorldTransformd(keys, labeller.cohort.grid.pixdim, rotate=0.17, scale=0.1, prob=0.8),
            EnsureTyped(keys, track_meta=False),
        ]
    )
    parameters = list(objective.parameters())
    return _stage(run, "register", 2, network, objective, parameters, Dataset(images, preprocessing), **schedule)


def _stage(
    run: Run,
    name: str,
    stream: int,
    network: nn.Module,
    objective: nn.Module,
    parameters: list[nn.Parameter],
    dataset: Dataset,
    max_epochs: int,
    epoch_length: int,
    batch_size: int,
    learning_rate: float,
    amp: bool,
) -> Stage:
    """Return a trainer by AdamW, whose rate falls from `learning_rate` to 0 along a cosine.

    Args:
        epoch_length: steps of an epoch.
    """
    loader = stream_loader(run, dataset, epoch_length * batch_size, batch_size, stream)
    optimizer = AdamW(parameters, lr=learning_rate)
    schedule = CosineAnnealingLR(optimizer, T_max=max(1, max_epochs * len(loader)))
    return Stage(run, name, max_epochs, loader, network, objective, optimizer, schedule, amp)
