"""The stages before the segmenter learns from pseudo labels, as trainers: the slice classifier, and appearance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.data import Dataset
from monai.transforms import Compose, EnsureTyped
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, OneCycleLR, PolynomialLR

from .appearance import AddTargetd, AppearanceNetwork, AppearanceObjective, AppearanceRounds
from .classifier.classifier import ClassifierObjective, SliceClassifier
from .classifier.clusters import SubClasses
from .common.errors import InputError
from .common.grid.field_of_view import AddInsided
from .common.launch.words import number
from .common.run.run import Run
from .common.sam.features.slice_features import SliceFeatures
from .common.training.loaders import stream_loader
from .common.training.stage import Stage
from .labeller import PseudoLabeller
from .transforms import AddChildd, AddFeaturesd

SCHEDULES = ("polynomial", "one_cycle")


def classify_stage(
    run: Run,
    features: SliceFeatures,
    clusters: SubClasses,
    classifier: SliceClassifier,
    images: Sequence[Any],
    max_epochs: int,
    epoch_length: int,
    batch_size: int,
    learning_rate: float,
    child_weight: float = 0.5,
    amp: bool = False,
    schedule: str = "polynomial",
) -> Stage:
    """Return the trainer of the classifier, by AdamW; a backbone that is tuned learns with it.

    Args:
        features: what the classifier sees, or the backbone to tune.
        clusters: known when the stage begins.
        epoch_length: steps of an epoch.
        child_weight: of the sub-classes, see `ClassifierObjective`.
        schedule: of the rate: `polynomial` falls from `learning_rate` to 0; `one_cycle` rises to it before, as
            published.

    Raises:
        InputError: another schedule.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"classify::schedule is {schedule!r}; wanted {' or '.join(SCHEDULES)}")
    preprocessing = Compose(
        [
            AddInsided("image"),
            AddFeaturesd(features),
            AddChildd(clusters),
            EnsureTyped(["image", "presence"], track_meta=False),
        ]
    )
    loader = stream_loader(run, Dataset(images, preprocessing), epoch_length * batch_size, batch_size, stream=1)
    objective = ClassifierObjective(
        classifier,
        features.slice_axis,
        child_weight,
        backbone=features.backbone if features.tuned else None,
        kind=features.kind,
        context=features.context,
        channel=features.channel,
    )
    optimizer = AdamW([p for p in objective.parameters() if p.requires_grad], lr=learning_rate)
    steps = max(1, max_epochs * len(loader))
    if schedule == "one_cycle":
        falling = OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps)
    else:
        falling = PolynomialLR(optimizer, total_iters=steps, power=0.9)
    return Stage(run, "classify", max_epochs, loader, classifier, objective, optimizer, falling, amp)


def appearance_stage(
    run: Run,
    labeller: PseudoLabeller,
    images: Sequence[Any],
    round_epochs: int,
    epoch_length: int,
    batch_size: int,
    learning_rate: float,
    amp: bool = False,
) -> Stage:
    """Return the trainer of all rounds of an `AppearanceNetwork`, by AdamW; 0 epochs where the labeller wants no round.

    Args:
        round_epochs: epochs of a round; the rate falls from `learning_rate` to 0 along a cosine in each.
        epoch_length: steps of an epoch.
    """
    round_epochs = int(number("appearance_epochs", round_epochs, whole=True, least=1))
    network = AppearanceNetwork(max(labeller.groups) + 1, in_channels=labeller.cohort.grid.channels)
    preprocessing = Compose(
        [AddTargetd(labeller), EnsureTyped(["image", "presence", "target"], track_meta=False)],
    )
    loader = stream_loader(run, Dataset(images, preprocessing), epoch_length * batch_size, batch_size, stream=2)
    objective = AppearanceObjective(network, labeller.groups)
    optimizer = AdamW(objective.parameters(), lr=learning_rate)
    falling = CosineAnnealingWarmRestarts(optimizer, T_0=round_epochs * len(loader))
    epochs, rounds = labeller.rounds * round_epochs, AppearanceRounds(labeller, network)
    return Stage(run, "appearance", epochs, loader, network, objective, optimizer, falling, amp, [rounds])
