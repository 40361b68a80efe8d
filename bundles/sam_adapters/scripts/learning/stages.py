"""The stage before the light network learns, as a trainer: the parts behind the encoder."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from ..common.learning.schedules import WarmCosineLR
from ..common.run.run import Run
from ..common.training.loaders import two_stream_loader
from ..common.training.stage import Stage
from ..slice_model.adapted_sam import AdaptedSam
from ..slice_model.two_decoders import TwoDecoders
from .cross_prompting import CrossObjective, CrossPrompting
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
    cross: CrossPrompting | None = None,
) -> Stage:
    """Return the trainer of what stands behind the encoder, see `SliceObjective`, by AdamW; of two decoders
    `CrossObjective`.

    Args:
        slabs: of a batch three in four, rounded up, show a structure; for two decoders on average.
        epoch_length: steps of an epoch, over all processes.
        batch_size: labelled slices of a step.
        learning_rate: the largest; it rises, then falls along a cosine.
        cross: what two decoders are to each other; None: nothing. Unlabelled slices stand beside the labelled ones.
    """
    objective: SliceObjective
    if isinstance(network.decoder, TwoDecoders):
        cross = cross or CrossPrompting()
        others = cross.batch if cross.wanted else 0
        loader = two_stream_loader(run, slabs, slabs.mostly_filled, epoch_length, batch_size, others, stream=1)
        objective = CrossObjective(network, max(1, max_epochs * len(loader)), dice_weight, cross)
    else:
        filled = -(-3 * batch_size // 4)
        others = batch_size - filled
        loader = two_stream_loader(run, slabs, slabs.with_structures, epoch_length, filled, others, stream=1)
        objective = SliceObjective(network, max(1, max_epochs * len(loader)), dice_weight)
    parameters: list[nn.Parameter] = [network.get_parameter(name) for name in network.trained()]
    optimizer = AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    schedule = WarmCosineLR(optimizer, max(1, max_epochs * len(loader)), WARM_UP)
    return Stage(run, "adapt", max_epochs, loader, network, objective, optimizer, schedule)
