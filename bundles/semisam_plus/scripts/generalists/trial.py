"""Before a generalist may teach: does it mend damaged masks of the labelled volumes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ..common.cohorts.few_labels import FewLabelCohort
from ..common.costs.pieces import Pieces, pieces
from ..common.imaging.morphology import gaussian_smooth
from ..common.launch import words
from ..common.pseudo_labels.opinions import agreement
from ..common.tensors import background_beyond, known_share, plain
from .consultation import combine
from .learned_prompt import Lesson
from .panel import GeneralistPanel

LEVELS = (0.6, 0.7, 0.8)  # Dice of specialists that have learnt from a few labels
SHOWN = 4  # labelled volumes that prompts are learnt from, at most
COARSENESS = 3.0  # voxels; errors of a specialist are regions, not single voxels


class GeneralistTrial:
    """Prompt each generalist with damaged masks of labelled volumes; who makes them worse is asked no more.

    A specialist's agreement with a generalist can't show this: on left atrium answers agreed to .82 to .86 with their
    specialists and were right to .61 to .71. A mask that is known can: damaged to a known Dice, it prompts the
    generalist as a specialist's prediction would, and the answer's own Dice says whether there is anything to be had.
    Only labels that the specialist learns from are used.

    Args:
        cohort: knows who is labelled.
        images: sequence of {"case", "image" [1, H, W, D], "label" [K, H, W, D] probabilities}, labelled cases first.
        panel: the generalists; those that fail are silenced.
        cases: labelled cases tried, the first ones; 0 or None: no trial, and everyone teaches.
        min_gain: least mean gain in Dice over levels and cases. Below 0, since the specialist has a say in what is
            learnt and only the best answers are: measured, generalists of -.01 still taught, one of -.10 did harm.
        seed: of the damage.
    """

    def __init__(
        self,
        cohort: FewLabelCohort,
        images: Sequence[Mapping[str, Any]],
        panel: GeneralistPanel,
        cases: int | None = 2,
        min_gain: float = -0.02,
        seed: int = 0,
    ) -> None:
        self.cohort, self.images, self.panel = cohort, images, panel
        self.cases = words.optional_number("trial_cases", cases, whole=True, least=0) or 0
        self.min_gain, self.seed = words.number("min_gain", min_gain), seed
        self.rows: list[dict[str, Any]] = []

    def share(self) -> Pieces:
        """Return how many labelled cases are tried; nothing is done where no generalist is there."""
        return pieces(self.cohort.labeled if self.panel.names else [], self.cases)

    def run(self) -> None:
        """Let those learn that have prompts to learn, try every generalist, silence those that fail, and say so."""
        count = min(self.cases, len(self.cohort.labeled))
        self.teach(count)
        if not self.panel.names or count < 1:
            return
        for index in range(count):
            self._try(index)
        for number, name in enumerate(self.panel.names):
            if self.gain(number) < self.min_gain:
                self.panel.silence(number)
                Console(stderr=True, soft_wrap=True).print(
                    f"{name} is not learnt from: prompted with damaged masks of {count} labelled volumes it changes "
                    f"their Dice by {self.gain(number):+.3f}, wanted {self.min_gain:+.3f} or more (min_gain)",
                    highlight=False,
                )

    def teach(self, tried: int) -> None:
        """Let generalists whose prompts are learnt learn them, from labelled volumes that are not tried, if there are
        any: damaged masks as a specialist's, and the labels."""
        learning = self.panel.learning
        if not learning:
            return
        count = len(self.cohort.labeled)
        shown = list(range(tried, count) if tried < count else range(count))[:SHOWN]
        lessons: dict[int, list[Lesson]] = {number: [] for number in learning}
        for index in shown:
            image, label = self._labelled(index)
            embeddings = self.panel.embed(image)
            for level in LEVELS:
                prompt = damage(label, level, self.seed + count + index)
                for number in learning:
                    lessons[number].append(Lesson(embeddings[number], prompt, label))
        for number in learning:
            self.panel.generalists[number].learn(lessons[number])

    def gain(self, number: int) -> float:
        """Return the mean gain in Dice of a generalist over all that it was asked."""
        gains = [row["answer"] - row["damaged"] for row in self.rows if row["number"] == number]
        return sum(gains) / len(gains)

    def summary(self) -> list[dict[str, Any]]:
        """Return for each generalist that was tried its mean Dice at each level, and whether it teaches."""
        lines = []
        for number, name in enumerate(self.panel.names if self.rows else []):
            line: dict[str, Any] = {"generalist": name}
            for level in LEVELS:
                found = [row["answer"] for row in self.rows if (row["number"], row["level"]) == (number, level)]
                line[f"masks damaged to {level:.1f}"] = sum(found) / len(found)
            lines.append(line | {"mean gain": self.gain(number), "teaches": number in self.panel.teaching})
        return lines

    def _labelled(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image [C, H, W, D] and label [K, H, W, D] of a labelled case, by its number."""
        item = self.images[index]
        label = plain(item["label"]).float()
        # damaged at random, what is of no class would become foreground
        return plain(item["image"]).float(), background_beyond(label[None], known_share(label[None]))[0]

    @torch.no_grad()
    def _try(self, index: int) -> None:
        image, label = self._labelled(index)
        embeddings = self.panel.embed(image)
        for level in LEVELS:
            prompt = damage(label, level, self.seed + index)
            for number, embedding in embeddings.items():
                said = self.panel.generalists[number].answer(embedding, prompt.to(self.panel.device))
                answer = combine([said], prompt)[0]
                found = {"damaged": agreement(prompt, label), "answer": agreement(answer.to(label), label)}
                self.rows.append({"number": number, "case": self.images[index]["case"], "level": level, **found})


def damage(label: Tensor, dice: float, seed: int, coarseness: float = COARSENESS) -> Tensor:
    """Return probabilities [K, H, W, D] whose Dice with a label [K, H, W, D] is near `dice`, wrong in whole regions.

    The logarithm of the smoothed label is shifted by smooth noise, each class's own; its strength is found by
    bisection.

    Args:
        label: probabilities, background first.
        dice: 0 to 1, as `agreement` measures it.
        coarseness: standard deviation of the Gaussian that makes the noise smooth, voxels.
    """
    noise = torch.randn(label.shape, generator=torch.Generator().manual_seed(seed)).to(label)
    noise = gaussian_smooth(noise, [coarseness] * 3)
    noise = noise / noise.std()
    base = gaussian_smooth(label, [coarseness / 2] * 3).clamp_min(1e-3).log()
    weak, strong = 0.0, 16.0
    for _ in range(12):
        middle = (weak + strong) / 2
        if agreement(base + middle * noise, label) > dice:
            weak = middle
        else:
            strong = middle
    return (base + weak * noise).softmax(0)
