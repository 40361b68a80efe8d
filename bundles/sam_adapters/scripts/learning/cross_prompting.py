"""How two decoders learn from labelled slices, and from each other on unlabelled ones (CPC-SAM, Miao et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.launch.words import number, truth
from ..slice_model.adapted_sam import AdaptedSam
from .objective import SliceObjective

LOSSES = ("mask", "prompted", "cross", "consistency")
PSEUDO_DICE = 0.5  # of the Dice where a pseudo label teaches; the cross entropy has the rest


@dataclass
class CrossPrompting:
    """Whether and how much two decoders teach each other on unlabelled slices.

    Args:
        wanted: False: two decoders alone.
        weight: of the loss of a decoder's unprompted answer against what the other one says, asked by its prompts.
        consistency: of the loss of what that one says, asked by the random prompts, against the same.
        start: share of the steps after which this begins.
        batch: unlabelled slices of a step, at least 1.

    Raises:
        InputError: a number outside its range.
    """

    wanted: bool = False
    weight: float = 0.4
    consistency: float = 0.05
    start: float = 1 / 6
    batch: int = 4

    def __post_init__(self) -> None:
        self.wanted = truth("cross_prompting", self.wanted)
        self.weight = number("cross_weight", self.weight, least=0)
        self.consistency = number("prompt_consistency", self.consistency, least=0)
        self.start = number("cross_from", self.start, least=0)
        self.batch = int(number("cross_batch", self.batch, whole=True, least=1))


class CrossObjective(SliceObjective):
    """Dice and cross entropy of both decoders, unprompted and prompted, and what each teaches the other.

    What a decoder finds unprompted gives two prompts a structure, see `TwoDecoders.places`; the other one is asked by
    each of them, and the mean of its two answers is the pseudo label of the unlabelled slices. It teaches the first
    one's unprompted answer and the other one's answer to the random prompts. Both directions are one step, and the loss
    is their mean, where the paper takes a step each. No gradient goes through prompts and pseudo labels. A labelled
    slice is asked by either of its two prompts, drawn at random; those, too, come from what the other decoder finds.

    Args:
        network: with two decoders.
        total_steps, dice_weight: see `SliceObjective`.
        cross: see `CrossPrompting`.

    forward: a batch as of `SliceObjective`, "labeled" [N] bool beside it; of unlabelled slices the mask is -1 where the
        scan has no voxel, else 0, which is not looked at.
    """

    def __init__(
        self, network: AdaptedSam, total_steps: int, dice_weight: float = 0.8, cross: CrossPrompting | None = None
    ) -> None:
        super().__init__(network, total_steps, dice_weight)
        self.cross = cross or CrossPrompting()

    @property
    def settings(self) -> dict[str, Any]:
        """For run.json."""
        return {**super().settings, "cross_prompting": asdict(self.cross)}

    def crossing(self) -> bool:
        """Say whether the decoders teach each other at this step."""
        return self.cross.wanted and int(self.step) >= self.cross.start * self.total_steps

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self.crossing():
            batch = {name: value[batch["labeled"]] for name, value in batch.items()}
        labeled, mask = batch["labeled"], batch["mask"]
        known = batch["known"][labeled] if "known" in batch else None
        others = ~labeled
        features, detail = self.network.prepare(self.embedding(batch), batch["planes"])
        plain = [self.network.ask(which, features, detail) for which in range(2)]
        losses = {name: mask.new_zeros((), dtype=torch.float32) for name in LOSSES}
        for which, other in ((0, 1), (1, 0)):
            centre, drawn = self.network.decoder.places(self.found(plain[other], mask))
            either = (torch.rand(len(mask)) < 0.5) & labeled.cpu()
            asked = self.network.ask(which, features, detail, torch.where(either[:, None, None, None], centre, drawn))
            losses["mask"] += self.compare(plain[which][labeled], mask[labeled], known=known) / 2
            losses["prompted"] += self.compare(asked[labeled], mask[labeled], known=known) / 2
            if not bool(others.any()):
                continue
            with torch.no_grad():
                some = None if detail is None else detail[others]
                by_centre = self.network.ask(which, features[others], some, centre[others.cpu()])
                pseudo = self.agreed(by_centre, asked[others], mask[others])
            losses["cross"] += self.compare(plain[other][others], pseudo, PSEUDO_DICE) / 2
            losses["consistency"] += self.compare(asked[others], pseudo, PSEUDO_DICE) / 2
        loss = losses["mask"] + losses["prompted"]
        loss = loss + self.cross.weight * losses["cross"] + self.cross.consistency * losses["consistency"]
        if self.training:
            self.step += 1
        return {"loss": loss, **losses}

    @torch.no_grad()
    def found(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the classes [N, rows, columns] that logits [N, K, m, m] say, 0 where the scan has no voxel."""
        return self.network.to_slice(logits, mask.shape[1:]).argmax(1).masked_fill(mask < 0, 0)

    @torch.no_grad()
    def agreed(self, one: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Return the classes [N, rows, columns] of the mean of two answers [N, K, m, m]; -1 where nothing is known."""
        shares = sum(self.network.to_slice(logits, mask.shape[1:]).exp() for logits in (one, other))
        return shares.argmax(1).masked_fill(mask < 0, -1)
