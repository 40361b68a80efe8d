"""CPS: two networks teach each other their hard labels."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..network import Specialist
from .base import SemiSupervisedObjective, no_loss

IGNORED = -100  # the target that cross entropy passes over


class CrossPseudoSupervision(SemiSupervisedObjective):
    """Cross entropy of each of two networks with the other's most probable class on unlabelled items (Chen 2021).

    Both learn from the labels, and from those of registration; the first one is deployed and makes the prompts.

    Args:
        second: the other network; None: a copy of the first with weights drawn anew.
    """

    title = "CPS"

    def __init__(self, network: Specialist, *, second: Specialist | None = None, **options: Any) -> None:
        super().__init__(network, **options)
        self.second = drawn_anew(network) if second is None else second

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        return [*super().param_groups(lr), {"params": list(self.second.parameters()), "lr": lr}]

    def method_losses(self, batch: dict[str, Tensor], output: Tensor, progress: float) -> dict[str, Tensor]:
        return self.losses_of_both(batch, output, self.levels(self.second, batch["image"]))

    def losses_of_both(self, batch: dict[str, Tensor], output: Tensor, levels: list[Tensor]) -> dict[str, Tensor]:
        """Return what the second network learns from labels, and both from each other.

        Args:
            levels: the second network's maps with all channels, the finest first.
        """
        losses = {"second": self.supervised_weight * self.supervised(levels, batch), "consistency": no_loss(output)}
        if self.pseudo_label_weight > 0:
            losses["second"] = losses["second"] + self.pseudo_label_weight * self.learn_from_pseudo_labels(
                levels, batch
            )
        unlabeled = ~batch["labeled"].bool()
        if bool(unlabeled.any()):
            classes = self.network.classes
            one, two = output[unlabeled, :classes], levels[0][unlabeled, :classes]
            beyond = ~self.inside(batch)[unlabeled, 0]
            said = [answer.argmax(1).masked_fill(beyond, IGNORED) for answer in (one, two)]
            losses["consistency"] = F.cross_entropy(one, said[1]) + F.cross_entropy(two, said[0])
        return losses


def drawn_anew(network: nn.Module) -> nn.Module:
    """Return a copy of a network in which every layer that can draws its first weights again."""
    other = copy.deepcopy(network)
    for module in other.modules():
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()
    return other
