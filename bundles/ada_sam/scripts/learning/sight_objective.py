"""How the classifier learns, and what ADA-SAM's objectives share: a frozen part outside checkpoints, class weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import InputError
from ..slice_model.ada_sam import AdaSam
from .pair_losses import locate_loss, presence_loss
from .pairs import known_pairs

SAM = "network.sam."  # where the frozen encoder is among an objective's tensors


class SightObjective(nn.Module):
    """Hold the network that learns. The frozen part of its SAM is no part of the state dict, and not looked for in one.

    Args:
        network: whose parts learn.
        positive_share: share of the training slices that each class is on, a list or a mapping in the classes' order;
            both sides of a class then weigh the same in the cross entropy of its bits. None: each slice does.

    Raises:
        InputError: positive_share of another length.
    """

    def __init__(self, network: AdaSam, positive_share: Mapping[Any, float] | Sequence[float] | None = None) -> None:
        super().__init__()
        self.network = network
        self.positive_share = None
        if positive_share is not None:
            share = list(positive_share.values() if isinstance(positive_share, Mapping) else positive_share)
            if len(share) != network.classes:
                raise InputError(
                    f"positive_share has {len(share)} numbers; wanted one for each of {network.classes} classes"
                )
            self.positive_share = torch.tensor(share, dtype=torch.float32)
        self.register_state_dict_post_hook(_leave_out_frozen)
        self.register_load_state_dict_pre_hook(_put_in_frozen)

    def embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings [N, C, h, w] of a batch: as cached, or encoded from its images."""
        return batch["embedding"].float() if "embedding" in batch else self.network.encode(batch["image"])


class ClassifyObjective(SightObjective):
    """Which classes are on a slice, learnt by the classifier alone on embeddings as they are.

    With `locate_weight` its maps learn the true masks of the slices that have one, too, see `locate_loss`.

    Batch: presence [N, P] 0 or 1, and embedding [N, C, h, w] or image [N, 1, rows, columns] in [0, 1]; to locate, mask
    and annotated as for `AdaptObjective`.

    forward: batch -> {"loss", "classify", "locate"}; "locate" only where it counts.
    """

    def __init__(
        self,
        network: AdaSam,
        positive_share: Mapping[Any, float] | Sequence[float] | None = None,
        locate_weight: float = 0.0,
    ) -> None:
        super().__init__(network, positive_share)
        if locate_weight < 0:
            raise InputError(f"locate_weight is {locate_weight}; wanted 0 or more")
        self.locate_weight = locate_weight

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            embedding = self.embed(batch)
        sight = self.network.look(embedding)
        bits = batch["presence"] > 0.5
        if self.training:
            self.network.observe(sight.maps, bits)
        losses = {"classify": presence_loss(sight.presence, bits, self.positive_share)}
        loss = losses["classify"]
        if self.locate_weight:
            pairs = known_pairs(batch["presence"], batch["mask"], batch["annotated"], self.network.classes)
            losses["locate"] = locate_loss(self.network.planes(sight.maps), pairs.truth, batch["annotated"] > 0.5)
            loss = loss + self.locate_weight * losses["locate"]
        return {"loss": loss, **losses}

    def param_groups(self, lr: float, weight_decay: float = 0.01) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups: the classifier."""
        head = {f"head.{name}" for name, _ in self.network.head.named_parameters()}
        return named_groups(self.network, head, lr, weight_decay)


def named_groups(network: nn.Module, names: set[str], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return the named parameters at one rate: matrices and kernels decay, norms, biases and single vectors don't."""
    chosen = [parameter for name, parameter in network.named_parameters() if name in names]
    decayed = [parameter for parameter in chosen if parameter.ndim > 1]
    rest = [parameter for parameter in chosen if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "lr": lr, "weight_decay": weight_decay},
        {"params": rest, "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _frozen(objective: SightObjective) -> set[str]:
    trained = {f"network.{name}" for name in objective.network.trainable_parameters()}
    names = (f"network.{name}" for name in objective.network.state_dict())
    return {name for name in names if name.startswith(SAM) and name not in trained}


def _leave_out_frozen(objective: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    """A checkpoint after every epoch needs no copy of base weights that never change."""
    for name in _frozen(objective):
        state.pop(prefix + name, None)


def _put_in_frozen(objective: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    own = objective.network.state_dict()
    for name in _frozen(objective):
        state.setdefault(prefix + name, own[name.removeprefix("network.")])
