"""What the specialist learns from the generalists' answers: a consistency that trusts where their masks agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.launch.words import truth

FORMS = ("squared", "dice_ce", "distillation")
TEMPERATURE = 10.0  # of the distillation, KnowSAM's
WEIGHTS = ("exp", "inverse", "none")


class GeneralistLoss(nn.Module):
    """Distance of the specialist to the generalists' pseudo label, weighted by their agreement.

    L = sum(d w) / sum(w) over the voxels of an item, with d the mean over classes of (p - answer)^2 and w falling with
    the variance U of the generalists' masks. With "dice_ce", d is the cross entropy, and 1 - Dice of the foreground,
    its sums over voxels weighted by w, is added: beside a supervised Dice the squared distance of the few voxels in
    doubt weighs next to nothing. With "distillation", d is the Kullback-Leibler divergence from the answer, both
    softened at a temperature T of 10, times T^2 (Hinton et al. 2015; KnowSAM, 2412.13742). SemiSAM+ (arXiv 2502.20749)
    weights voxels down where masks disagree; the authors' release divides the loss by itself, which leaves no gradient,
    so the form here is its intent, with the exponential of URPC. Answers and disagreement never get a gradient.

    Args:
        weight: "exp" (exp(-U / tau)), "inverse" (1 - U / max U of the item) or "none".
        tau: scale of U. U of numbers in [0, 1] is at most about 0.27, so the literal tau of 1 hardly weights.
        hard: learn the most probable class of the answer (the release) instead of its probabilities; a distillation is
            of these always.
        attach: weight of a second term, the plain squared distance to the answer's probabilities: the specialist's own
            share in the variance, which URPC minimises. 0 leaves it out.
        form: "squared" (the paper's), "dice_ce" or "distillation".

    forward: probabilities [N, K, H, W, D] of the specialist, with gradient; answer [N, K, H, W, D]; disagreement
    [N, 1, H, W, D]; answer_weight [N], 0 for an item without an answer; inside [N, 1, H, W, D], 0 for voxels that don't
    count, None: all do -> scalar, the mean over the N items.

    Raises:
        InputError: an unknown form or weight, or tau not above 0.
    """

    def __init__(
        self, weight: str = "exp", tau: float = 0.05, hard: bool = True, attach: float = 0.0, form: str = "squared"
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise InputError(f"form of the generalist's loss is {form!r}; wanted one of {', '.join(FORMS)}")
        if weight not in WEIGHTS:
            raise InputError(f"weight of the generalist's loss is {weight!r}; wanted one of {', '.join(WEIGHTS)}")
        if tau <= 0:
            raise InputError(f"tau is {tau}; wanted a number above 0")
        self.weight, self.tau, self.attach, self.form = weight, tau, attach, form
        self.hard = truth("hard_answer", hard)

    def voxel_weight(self, disagreement: Tensor) -> Tensor:
        """Return w in [0, 1] with the shape of the disagreement [N, 1, H, W, D]."""
        if self.weight == "exp":
            return torch.exp(-disagreement / self.tau)
        if self.weight == "inverse":
            largest = disagreement.amax(dim=(1, 2, 3, 4), keepdim=True)
            return 1 - disagreement / largest.clamp_min(1e-8)
        return torch.ones_like(disagreement)

    def forward(
        self,
        probabilities: Tensor,
        answer: Tensor,
        disagreement: Tensor,
        answer_weight: Tensor,
        inside: Tensor | None = None,
    ) -> Tensor:
        probabilities = probabilities.float()
        asked = answer_weight > 0
        if not bool(asked.any()):
            return probabilities.sum() * 0
        answer, item_weight = answer[asked].detach().float(), answer_weight[asked].detach().float()
        inside = torch.ones_like(disagreement) if inside is None else inside
        inside = inside[asked].float()
        weight = self.voxel_weight(disagreement[asked].detach().float()) * inside
        target = answer
        if self.hard:
            target = F.one_hot(answer.argmax(1), answer.shape[1]).movedim(-1, 1).float()
        own = probabilities[asked]
        if self.form == "squared":
            distance = (own - target).square().mean(1, keepdim=True)
        elif self.form == "distillation":
            distance = softened_divergence(own, answer)
        else:
            distance = -(target * own.clamp_min(1e-6).log()).sum(1, keepdim=True)
        loss = (distance * weight).flatten(1).sum(1) / (weight.flatten(1).sum(1) + 1e-8)
        if self.form == "dice_ce":
            loss = loss + 1 - weighted_dice(own[:, 1:], target[:, 1:], weight).mean(1)
        if self.attach > 0:
            distance = ((own - answer).square() * inside).flatten(1).mean(1)
            loss = loss + self.attach * distance / inside.flatten(1).mean(1).clamp_min(1e-6)
        return (loss * item_weight).sum() / probabilities.shape[0]


def softened_divergence(own: Tensor, answer: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return T^2 KL(answer || own) of probabilities [N, K, H, W, D] that a temperature T has softened, [N, 1, H, W, D].

    A power of 1/T of probabilities, made to sum to 1, is the softmax of their logits over T.
    """
    soft, wanted = ((p.clamp_min(1e-6).log() / temperature).log_softmax(1) for p in (own, answer))
    return temperature**2 * (wanted.exp() * (wanted - soft)).sum(1, keepdim=True)


def weighted_dice(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Return the soft Dice of probabilities [N, C, H, W, D], voxels weighted by [N, 1, H, W, D]; [N, C]."""
    axes = (2, 3, 4)
    shared = (first * second * weight).sum(axes)
    return (2 * shared + 1e-5) / (((first + second) * weight).sum(axes) + 1e-5)
