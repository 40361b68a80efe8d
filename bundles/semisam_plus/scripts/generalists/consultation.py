"""What frozen generalists answer about a volume, and how several answers become one pseudo label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.pseudo_labels.opinions import agreement
from .learned_prompt import Lesson


@dataclass(frozen=True)
class Answer:
    """The masks of one generalist under several prompts, one against the rest for each foreground class.

    members: [n, K-1, H, W, D] probabilities; zero for a class that it was not asked about.
    asked: [K-1] bool; False where the specialist gave nothing to make a prompt of.
    improving: the members are steps of one interaction, of which the last one counts; else their mean does.
    """

    members: Tensor
    asked: Tensor
    improving: bool = False

    @property
    def foreground(self) -> Tensor:
        """What the generalist says in the end, probabilities [K-1, H, W, D]."""
        return self.members[-1] if self.improving else self.members.mean(0)


class Generalist(ABC):
    """A frozen promptable network behind two calls; its weights neither change nor get a gradient.

    It is no `nn.Module` on purpose: what holds it does not save it, move it or train it.
    """

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What the embeddings depend on beside the image: the keywords of `FeatureCache`."""

    @abstractmethod
    def embed(self, image: Tensor) -> Tensor:
        """Encode a volume [1, 1, H, W, D] in [0, 1] once, for all prompts; the result may be cached."""

    @abstractmethod
    def answer(self, embedding: Tensor, probabilities: Tensor) -> Answer:
        """Answer prompts made from the specialist's probabilities [K, H, W, D], background first.

        The same inputs give the same answer, whatever was asked before.
        """

    @property
    def learns(self) -> bool:
        """Whether it has prompts that are learnt."""
        return False

    @property
    def ready(self) -> bool:
        """Whether it has learnt what it is to be asked by."""
        return True

    def learn(self, lessons: Sequence[Lesson]) -> None:
        """Learn the prompts anew from labelled volumes; only for one that `learns`."""
        raise NotImplementedError


def combine(answers: Sequence[Answer], specialist: Tensor, specialist_share: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the pseudo label and the disagreement of one generalist or several (spec O4, O11).

    A class has the mean of the generalists that were asked about it; where none was, the specialist's own opinion
    stands, which teaches nothing. The background is what the strongest class leaves.

    Args:
        answers: one for each generalist, at least one.
        specialist: probabilities [K, H, W, D]; counts as one more member of the disagreement.
        specialist_share: of the specialist's probabilities in the pseudo label, 0 to 1.

    Returns:
        probabilities [K, H, W, D] that sum to 1, and the unbiased variance of all members [1, H, W, D], the largest
        over the classes (0 to 0.5).
    """
    specialist = specialist.detach().float()
    own = specialist[1:]
    foreground, variance = [], []
    for index, q in enumerate(own):
        asked = [answer for answer in answers if bool(answer.asked[index])]
        said = [answer.foreground[index].to(q) for answer in asked]
        foreground.append(torch.stack(said).mean(0) if said else q)
        members = [q[None], *(answer.members[:, index].to(q) for answer in asked)]
        variance.append(torch.cat(members).var(0) if said else torch.zeros_like(q))
    classes = torch.stack(foreground)
    answer = torch.cat([1 - classes.amax(0, keepdim=True), classes])
    answer = answer / answer.sum(0, keepdim=True)
    answer = (1 - specialist_share) * answer + specialist_share * specialist
    return answer, torch.stack(variance).amax(0, keepdim=True)


def gate(
    answer: Tensor,
    specialist: Tensor,
    min_agreement: float = 0.3,
    volume_ratio: tuple[float, float] = (0.1, 10.0),
    min_voxels: int = 16,
    graded: bool = False,
) -> float:
    """Return how far an answer may teach, judged without labels (spec O9): 0 shuts the gate.

    Agreement with the specialist says more about a generalist's mask than the disagreement of its members does
    (measured: rank correlation with the true Dice .74 to .81 against .05 to .50).

    Args:
        answer, specialist: probabilities [K, H, W, D]; the answer without the specialist's share.
        min_agreement: least Dice of both, mean over classes.
        volume_ratio: least and largest foreground of the answer, as a multiple of the specialist's.
        min_voxels: least foreground of the specialist.
        graded: return the agreement instead of 1 where the gate is open.
    """
    said, own = (int((p.argmax(0) > 0).sum()) for p in (answer, specialist))
    if own < max(min_voxels, 1) or not volume_ratio[0] <= said / own <= volume_ratio[1]:
        return 0.0
    shared = agreement(answer, specialist)
    if shared < min_agreement:
        return 0.0
    return shared if graded else 1.0
