"""The stage before the light network learns, as a trainer: the parts behind the encoder."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from ..common.learning.schedules import WarmCosineLR
from ..common.run.run import Run
from ..common.training.loaders import two_stream_loader
from ..common.training.stage import Stage
from ..slice_model.adapted_sam import AdaptedSam
from .objective import SliceObjective
from .slabs import SlabDataset

WARM_UP = 0.05  # first share of the steps, in which the rate rises


def adapt(
    run: Run,
    network: AdaptedSam,
    slabs: SlabDataset,
    max_epochs: int,
    epoch_length: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.1,
    dice_weight: float = 0.8,
) -> Stage:
    """Return the trainer of what stands behind the encoder, see `SliceObjective`, by AdamW.

    Args:
        slabs: of a batch three in four, rounded up, show a structure.
        epoch_length: steps of an epoch, over all processes.
        learning_rate: the largest; it rises, then falls along a cosine.
    """
    filled = -(-3 * batch_size // 4)
    others = batch_size - filled
    loader = two_stream_loader(run, slabs, slabs.with_structures, epoch_length, filled, others, stream=1)
    objective = SliceObjective(network, max(1, max_epochs * len(loader)), dice_weight)
    parameters: list[nn.Parameter] = [network.get_parameter(name) for name in network.trained()]
    optimizer = AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    schedule = WarmCosineLR(optimizer, max(1, max_epochs * len(loader)), WARM_UP)
    return Stage(run, "adapt", max_epochs, loader, network, objective, optimizer, schedule)
