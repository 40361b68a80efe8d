"""One structure through the slices of a volume: by its map's boxes, by its own answers, then from slice to slice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.imaging.prompts import bounding_boxes
from ..common.launch.words import truth
from ..slice_model.ada_sam import NOT_ASKED, AdaSam
from ..slice_model.slice_prompts import cam_boxes, mask_prompt
from .box_track import median_boxes
from .propagation import choose_seed, propagate

FIRST_PROMPTS = ("cam", "whole", "both")
MASK = 0.5  # a voxel above this probability belongs to a slice's mask


class Walked(NamedTuple):
    """What is known of a structure on n slices.

    logits: [n, rows, columns], -10 where it was not asked for.
    boxes: [n, 4] of the first prompts.
    confidence: [n] in [0, 1]: of a mask where it was looked for, of its absence elsewhere.
    """

    logits: Tensor
    boxes: Tensor
    confidence: Tensor


class StructureWalk:
    """Ask a network for one structure on all slices that may have it. Prompts name no class, so any is asked alike.

    Args:
        network: in eval mode.
        box_median: slices of the running median of boxes, odd; 1 for none.
        first_prompt: "cam" boxes; "whole" for the whole slice, which needs no good map; "both" for the mean answer.
        passes: 1 or more.
        mask_prompt: give the own maps as mask prompts too; None leaves it to the network.
        answer_prompt: give the own answers, of the pass or the slice before, as mask prompts too. A network that has
            not met them in training is better off with boxes alone.
        propagate: hand masks on; see `propagate` for `propagate_reach` (voxels) and `propagate_share`.
        batch_size: slices asked at once.

    Raises:
        InputError: a setting that is none.
    """

    def __init__(
        self,
        network: AdaSam,
        box_median: int = 5,
        first_prompt: str = "cam",
        passes: int = 2,
        mask_prompt: bool | None = None,
        answer_prompt: bool = False,
        propagate: bool = True,
        propagate_reach: float = 2.0,
        propagate_share: float = 0.5,
        batch_size: int = 8,
    ) -> None:
        problems = []
        if first_prompt not in FIRST_PROMPTS:
            problems.append(f"first_prompt is {first_prompt!r}; wanted one of {', '.join(FIRST_PROMPTS)}")
        if passes < 1:
            problems.append(f"passes is {passes}; wanted 1 or more")
        if box_median < 1 or box_median % 2 == 0:
            problems.append(f"box_median is {box_median}; wanted an odd number of slices, 1 for none")
        if not 0 <= propagate_share <= 1:
            problems.append(f"propagate_share is {propagate_share}; wanted 0 to 1")
        if problems:
            raise InputError(problems)
        self.network, self.batch_size = network, batch_size
        self.box_median, self.first_prompt, self.passes = box_median, first_prompt, passes
        self.mask_prompt = network.mask_prompt if mask_prompt is None else mask_prompt
        self.answer_prompt, self.propagate = answer_prompt, truth("propagate", propagate)
        self.propagate_reach, self.propagate_share = propagate_reach, propagate_share

    @property
    def settings(self) -> dict[str, object]:
        """All that an answer depends on beside the network's weights."""
        return {name: value for name, value in vars(self).items() if name not in ("network", "batch_size")}

    def __call__(
        self, embeddings: Tensor, cam: Tensor, gate: Tensor, presence: Tensor, patches: Tensor | None = None
    ) -> Walked:
        """Segment a structure.

        Args:
            embeddings: [n, C, h, w] of all slices.
            cam: [n, rows, columns] in [0, 1], its activation maps.
            gate: bool [n], on which slices it is looked for.
            presence: [n] in [0, 1], how sure that is.
            patches: bool [n, h / 2, w / 2] of the network's patch map, in place of the activation maps as mask prompts.
        """
        boxes, found = cam_boxes(cam, **self.network.boxes_by, min_size=2 * self.network.cell)
        boxes = median_boxes(boxes[None], found[None], self.box_median)[0]
        masks = None
        if self.mask_prompt:
            masks = mask_prompt(cam) if patches is None else patches
        first, last, asked = self._segment(embeddings, boxes, masks, gate)
        if self.propagate:
            areas = (last.sigmoid() > MASK).flatten(1).sum(1)
            last = propagate(
                lambda slices, *prompts: self._ask(embeddings, slices, *prompts),
                last,
                self._answer_boxes(last, asked),
                gate,
                choose_seed(_confidence(first, last, gate, presence), gate, areas),
                reach=self.propagate_reach,
                share=self.propagate_share,
                mask_prompt=self.answer_prompt,
            )
        return Walked(last, boxes, _confidence(first, last, gate, presence))

    def by_truth(self, embeddings: Tensor, masks: Tensor) -> Walked:
        """Segment a structure by the tight boxes of its true masks, bool [n, rows, columns]."""
        gate = masks.flatten(1).any(1)
        boxes = self._whole(gate)
        boxes[gate] = bounding_boxes(masks[gate]).to(boxes)
        logits = self._answer(embeddings, boxes, None, gate)
        return Walked(logits, boxes, _confidence(logits, logits, gate, gate.float()))

    def _segment(
        self, embeddings: Tensor, boxes: Tensor, masks: Tensor | None, gate: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits [n, rows, columns] of the first pass and of the last, and its boxes [n, 4]."""
        answers = []
        if self.first_prompt in ("cam", "both"):
            answers.append(self._answer(embeddings, boxes, masks, gate))
        if self.first_prompt in ("whole", "both"):
            answers.append(self._answer(embeddings, self._whole(gate), None, gate))
        first = last = torch.stack(answers).mean(0)
        for _ in range(1, self.passes):
            boxes = self._answer_boxes(last, boxes)
            last = self._answer(embeddings, boxes, last if self.answer_prompt else None, gate)
        return first, last, boxes

    def _answer(self, embeddings: Tensor, boxes: Tensor, masks: Tensor | None, gate: Tensor) -> Tensor:
        """Return logits [n, rows, columns]; slices that nothing is asked of cost nothing."""
        logits = torch.full((len(embeddings), *self.network.slice_size), NOT_ASKED, device=embeddings.device)
        asked = gate.nonzero()[:, 0]
        if len(asked):
            logits[asked] = self._ask(embeddings, asked, boxes[asked], None if masks is None else masks[asked])
        return logits

    def _ask(self, embeddings: Tensor, slices: Tensor, boxes: Tensor, masks: Tensor | None) -> Tensor:
        """Answer prompts on slices int64 [N], with logits [N, rows, columns] on the device of the embeddings."""
        device, answers = self.network.whole_slice.device, []
        for start in range(0, len(slices), self.batch_size):
            part = slice(start, start + self.batch_size)
            prompts = [None if x is None else x[part].to(device) for x in (boxes, masks)]
            answers.append(self.network.ask(embeddings[slices[part]].to(device).float(), *prompts))
        return torch.cat(answers).float().to(embeddings.device)

    def _answer_boxes(self, logits: Tensor, fallback: Tensor) -> Tensor:
        """Return the boxes [n, 4] around the masks, and `fallback` where a mask is empty."""
        rule = {**self.network.boxes_by, "threshold": MASK}
        boxes, found = cam_boxes(logits.sigmoid(), **rule, min_size=3.0)
        return torch.where(found[:, None], boxes, fallback)

    def _whole(self, gate: Tensor) -> Tensor:
        """Return the box around the whole slice for each of n, [n, 4]."""
        return self.network.whole_slice.to(gate.device).expand(len(gate), 4).clone()


def _confidence(first: Tensor, last: Tensor, gate: Tensor, presence: Tensor) -> Tensor:
    """Return [n]: presence x how sure the mask's voxels are x how well first and last answer agree."""
    before, after = first.sigmoid() > MASK, last.sigmoid() > MASK
    inside = last.sigmoid() * after
    sure = inside.flatten(1).sum(1) / after.flatten(1).sum(1).clamp_min(1)  # the mean over the mask; 0 where empty
    both = (before & after).flatten(1).sum(1)
    total = before.flatten(1).sum(1) + after.flatten(1).sum(1)
    stable = 2 * both / total.clamp_min(1)
    return torch.where(gate, presence * sure * stable, 1 - presence)
