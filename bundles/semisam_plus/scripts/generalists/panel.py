"""The frozen generalists of a run: built by their names, and asked together about a volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.launch import words
from ..common.pseudo_labels.opinions import agreement
from ..common.sam.features.feature_cache import FeatureCache
from ..common.sam.members.family import FAMILY
from ..common.sam.members.record import VolumeMember
from ..common.tensors import grey
from .consultation import Generalist, combine, gate
from .slice_generalist import SliceGeneralist
from .volume_generalist import VolumeGeneralist

MASK_HELPED_BOX = "box, box+mask"  # members take them in turn; measured a little better than boxes alone


@dataclass(frozen=True)
class Consultation:
    """What comes of asking all generalists about a volume.

    answer: pseudo probabilities [K, H, W, D]; disagreement: variance of the masks [1, H, W, D]; weight: of `gate`.
    agreement: Dice of the generalists' own pseudo label with the specialist.
    mutual: mean Dice between the generalists, 1 for a single one.
    """

    answer: Tensor
    disagreement: Tensor
    weight: float
    agreement: float
    mutual: float


class GeneralistPanel:
    """Build the generalists, embed each volume once (kept on disk) and answer a specialist's prompts.

    Args:
        generalist: name of a SAM family member or SAM-Med3D, several of them, or None for no generalist at all.
        folder: of the embeddings.
        checkpoint, image_size, prompt: for all generalists, or a list with one for each. A prompt of None is a 2D
            generalist's box, with and without the mask, or a 3D one's clicks; a 3D generalist's image size is its own.
        compared_prompts: kinds of prompts of 2D generalists whose answers on the scored cases stand in the report too,
            unless the generalist is silenced.
        specialist_share: of the specialist's probabilities in the pseudo label, 0 to 1.
        rule: options of `generalists.gate`, such as min_agreement.
        channel: of an image, that they see; None: the mean of all.
        slice_options, volume_options: further arguments of `SliceGeneralist` and `VolumeGeneralist`.

    Raises:
        InputError: weights missing, of the wrong sha256 or not those of a name; raised at once, before any training.
    """

    def __init__(
        self,
        generalist: str | Sequence[str] | None,
        folder: str,
        checkpoint: str | Sequence[str | None] | None = None,
        image_size: int | Sequence[int | None] | None = None,
        prompt: str | Sequence[str | None] | None = None,
        compared_prompts: Sequence[str] = (),
        specialist_share: float = 0.0,
        rule: Mapping[str, Any] | None = None,
        slice_options: Mapping[str, Any] | None = None,
        volume_options: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
        channel: int | None = None,
    ) -> None:
        self.channel = words.optional_number("sam_channel", channel, whole=True, least=0)
        self.names = [name for name in words.names(generalist) or [] if words.optional(name) is not None]
        self.specialist_share, self.rule, self.device = specialist_share, dict(rule or {}), torch.device(device)
        self.generalists: list[Generalist] = []
        self._titles: dict[str, tuple[int, Generalist]] = {}
        sizes = one_each("image_size", image_size, self.names)
        chosen = [
            one_each("checkpoint", checkpoint, self.names),
            [words.optional_number("generalist_image_size", size, whole=True, least=1) for size in sizes],
            one_each("prompt", prompt, self.names),
        ]
        compared = words.names(compared_prompts) or []
        # what is frozen draws nothing: a specialist begins with the same weights whomever it asks
        with torch.random.fork_rng(devices=[]):
            for number, (name, path, size, kind) in enumerate(zip(self.names, *chosen, strict=True)):
                if isinstance(FAMILY.get(name), VolumeMember):
                    options = {**(volume_options or {}), "prompt": kind or "clicks", "device": self.device}
                    asked: list[VolumeGeneralist | SliceGeneralist] = [
                        VolumeGeneralist(name, checkpoint=path, **options)
                    ]
                else:
                    options = {**(slice_options or {}), "device": self.device}
                    kind = kind or MASK_HELPED_BOX
                    first = SliceGeneralist(name, prompt=kind, checkpoint=path, image_size=size, **options)
                    others = [SliceGeneralist(first.slices.sam, prompt=other, **options) for other in compared]
                    asked = [first, *others]
                self.generalists.append(asked[0])
                for one in asked:  # the one that teaches comes first, and stays where two have the same prompt
                    self._titles.setdefault(f"{name} {one.prompt}", (number, one))
        self.disks = [FeatureCache(folder, **one.identity) for one in self.generalists]
        self.teaching = list(range(len(self.names)))
        self.settings = {
            "generalist": self.names,
            **dict(zip(("checkpoint", "image_size", "prompt"), chosen, strict=True)),
            "specialist_share": specialist_share,
            "channel": self.channel,
            "rule": self.rule,
            "slice_options": slice_options,
            "volume_options": volume_options,
        }

    @property
    def teachers(self) -> list[str]:
        """Names of the generalists that are learnt from."""
        return [self.names[number] for number in self.teaching]

    @property
    def learning(self) -> list[int]:
        """Numbers of those that are learnt from and have prompts to learn."""
        return [number for number in self.teaching if self.generalists[number].learns]

    @property
    def compared(self) -> dict[str, tuple[int, Generalist]]:
        """Whose answers stand beside the prediction, title -> number and generalist: of those that are learnt from.

        Prompts that were not learnt in this process, as where a model is only scored, stand there no more.
        """
        titles = {title: found for title, found in self._titles.items() if found[0] in self.teaching}
        return {title: found for title, found in titles.items() if found[1].ready}

    @property
    def identity(self) -> str:
        """What an answer depends on beside the image and the specialist."""
        return repr((self.teaching, self.settings))

    def silence(self, number: int) -> None:
        """Ask a generalist no more: nothing is learnt from it, and it is neither embedded for nor compared."""
        self.teaching.remove(number)

    @torch.no_grad()
    def embed(self, image: Tensor) -> dict[int, Tensor]:
        """Return the embedding of an image [C, H, W, D] in [0, 1] by the number of each generalist that is learnt from.

        It comes from the disk where it is there.
        """
        image = grey(image, self.channel)

        def embedded(one: Generalist) -> Callable[[Tensor], Tensor]:
            return lambda volume: one.embed(volume[None].to(self.device))

        return {number: self.disks[number].get(image, embedded(self.generalists[number])) for number in self.teaching}

    @torch.no_grad()
    def ask(self, embeddings: Mapping[int, Tensor], specialist: Tensor) -> Consultation:
        """Return what the teaching ones say of an embedded volume to a specialist's probabilities [K, H, W, D].

        Where nobody teaches, the specialist's own opinion comes back with weight 0.
        """
        if not self.teaching:
            own = specialist.detach().float()
            return Consultation(own, torch.zeros_like(own[:1]), weight=0.0, agreement=1.0, mutual=1.0)
        answers = [self.generalists[number].answer(embeddings[number], specialist) for number in self.teaching]
        own, disagreement = combine(answers, specialist)
        opinions = [combine([answer], specialist)[0] for answer in answers]
        between = [agreement(a, b) for i, a in enumerate(opinions) for b in opinions[:i]]
        return Consultation(
            answer=(1 - self.specialist_share) * own + self.specialist_share * specialist.detach().float(),
            disagreement=disagreement,
            weight=float(gate(own, specialist, **self.rule)),
            agreement=agreement(own, specialist),
            mutual=sum(between) / len(between) if between else 1.0,
        )

    @torch.no_grad()
    def __call__(self, image: Tensor, specialist: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer a batch in the middle of training, without the disk.

        Args:
            image: [N, C, H, W, D]; specialist: probabilities [N, K, H, W, D].

        Returns:
            answer [N, K, H, W, D], disagreement [N, 1, H, W, D], weight [N].
        """
        said = []
        for volume, own in zip(grey(image, self.channel).float(), specialist, strict=True):
            there = volume[None].to(self.device)
            said.append(self.ask({number: self.generalists[number].embed(there) for number in self.teaching}, own))
        answer, disagreement = torch.stack([s.answer for s in said]), torch.stack([s.disagreement for s in said])
        return answer, disagreement, answer.new_tensor([s.weight for s in said])


def one_each(setting: str, value: Any, names: Sequence[str]) -> list:
    """Return a setting for each generalist: a single value goes for all of them."""
    values = list(value) if isinstance(value, list | tuple) else [value] * len(names)
    if len(values) != len(names):
        raise InputError(f"generalist_{setting}: found {len(values)} for {len(names)} generalists; wanted one each")
    return [words.optional(one) for one in values]
