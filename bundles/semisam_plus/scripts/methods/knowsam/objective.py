"""KnowSAM: two specialists teach each other, a head fuses them, a SAM that it prompts teaches both."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import UNet
from torch import Tensor
from torch.nn import functional as F

from ...common.errors import InputError
from ...common.learning.partial import share_background
from ...common.tensors import mean_where
from ...network import Specialist
from ..base import no_loss
from ..cps import CrossPseudoSupervision, drawn_anew
from .fusion import FusedSpecialists, FusionHead, entropy
from .mixing import pasted, surest_blocks


class KnowSAM(CrossPseudoSupervision):
    """Cross pseudo supervision of two specialists of two kinds, with a fusion head (Huang et al. 2412.13742, TMI 2025).

    Both learn from labels and little entropy, each from the other's classes, and both from the generalists' answers,
    which the fused prediction prompts (with `answer_loss: distillation` at the published temperature of 10). Late,
    what they are surest of in labelled and unlabelled volumes is pasted into one another, and both and the head learn
    from these mixes, too: by labels, and by answers where there are some, else by the fused prediction. The first
    specialist is deployed.

    The head learns from what both say, and they don't learn through it: the one that is deployed must do without.
    Mended of the release: every class counts in the losses, entropies are shares of log K, and the distillation has K
    classes. Of the losses of a mix the one by its target is built, the others are not. Generalists that are asked in
    each step, not in rounds, are asked twice: for either specialist.

    Args:
        second: the other specialist; None: where the first one's body is MONAI's UNet one of plain instead of residual
            convolutions (the release has UNet and V-Net), else a copy with weights drawn anew.
        entropy_weight: of the mean entropy of both on unlabelled items, a share of log K, beside a supervised loss of
            1.
        mix_from: share of the training before the first mix; 1: none.
        fusion_width: see `FusionHead`.
    """

    title = "KnowSAM"

    def __init__(
        self,
        network: Specialist,
        *,
        second: Specialist | None = None,
        entropy_weight: float = 0.9,
        mix_from: float = 0.24,
        fusion_width: int = 8,
        **options: Any,
    ) -> None:
        super().__init__(network, second=of_another_kind(network) if second is None else second, **options)
        if entropy_weight < 0 or not 0 <= mix_from <= 1 or fusion_width < 1:
            raise InputError(
                f"entropy_weight is {entropy_weight}, mix_from is {mix_from}, fusion_width is {fusion_width}; wanted 0 "
                "or more, 0 to 1, and 1 or more"
            )
        self.entropy_weight, self.mix_from, self.fusion_width = entropy_weight, mix_from, fusion_width
        self.fusion = FusionHead(network.classes, fusion_width)
        self.teacher = FusedSpecialists(network, self.second, self.fusion)

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        return [*super().param_groups(lr), {"params": list(self.fusion.parameters()), "lr": lr}]

    def losses_of_both(self, batch: dict[str, Tensor], output: Tensor, levels: list[Tensor]) -> dict[str, Tensor]:
        losses = super().losses_of_both(batch, output, levels)
        step, classes = int(self.step), self.network.classes
        one, two = output[:, :classes], levels[0][:, :classes]
        if self.generalist_loss is not None:
            weight = self.schedule(step)[1]
            losses["second"] = losses["second"] + weight * self.learn_from_generalists(batch, levels[0], step, weight)
        fused = self.fusion(one.detach(), two.detach())
        losses["fused"] = self.supervised_weight * self.supervised([fused], batch)
        unlabeled = ~batch["labeled"].bool()
        losses["entropy"] = no_loss(output)
        if bool(unlabeled.any()) and self.entropy_weight > 0:
            inside = self.inside(batch)[unlabeled]
            unsure = [mean_where(entropy(said[unlabeled]), inside) for said in (one, two)]
            losses["entropy"] = self.supervised_weight * self.entropy_weight * sum(unsure) / 2
        if self.training and step >= self.mix_from * self.total_steps:
            losses["mixed"] = self.supervised_weight * self.learn_from_mixes(batch, fused.detach())
        return losses

    def learn_from_mixes(self, batch: dict[str, Tensor], fused: Tensor) -> Tensor:
        """Return the loss of both specialists and of the head on mixes of labelled and unlabelled items, in pairs.

        Args:
            fused: logits [B, K, H, W, D] of the batch.
        """
        image, inside, labeled = batch["image"], self.inside(batch), batch["labeled"].bool()
        own, others = labeled.nonzero()[:, 0], (~labeled).nonzero()[:, 0]
        pairs = min(len(own), len(others))
        if not pairs:
            return no_loss(fused)
        places = torch.cat([own[:pairs], others[:pairs]])
        partners = torch.cat([others[:pairs], own[:pairs]])
        blocks = surest_blocks(entropy(fused), inside)[partners]
        label = share_background(batch["label"].float(), fused.softmax(1), batch.get("known"))
        targets = torch.where(labeled.view(-1, 1, 1, 1, 1), label, self.taught(batch, fused))
        targets = targets * inside
        target = pasted(targets[places], targets[partners], blocks)
        mixed = pasted(image[places], image[partners], blocks)
        everyone = torch.ones(len(places), dtype=torch.bool, device=image.device)
        levels = [self.levels(network, mixed) for network in (self.network, self.second)]
        classes = self.network.classes
        together = self.fusion(*(found[0][:, :classes].detach() for found in levels))
        losses = [self.segmentation(found, target, everyone) for found in (*levels, [together])]
        return (losses[0] + losses[1]) / 2 + losses[2]

    @torch.no_grad()
    def taught(self, batch: dict[str, Tensor], fused: Tensor) -> Tensor:
        """Return the classes [B, K, H, W, D] of unlabelled items: of an answer that is learnt from, else as fused."""
        said = fused.softmax(1)
        if "answer" in batch:
            heard = (batch["answer_weight"] > 0).view(-1, 1, 1, 1, 1)
            said = torch.where(heard, batch["answer"].float(), said)
        return F.one_hot(said.argmax(1), said.shape[1]).movedim(-1, 1).float()


def of_another_kind(network: Specialist) -> Specialist:
    """Return a specialist whose body differs from a network's own: see `KnowSAM`."""
    other = drawn_anew(network)
    body = network.body
    if isinstance(body, UNet) and body.num_res_units > 0:
        other.body = UNet(
            body.dimensions, body.in_channels, body.out_channels, body.channels, body.strides, num_res_units=0,
            kernel_size=body.kernel_size, up_kernel_size=body.up_kernel_size, act=body.act, norm=body.norm,
            dropout=body.dropout,
        )  # fmt: skip
    return other
