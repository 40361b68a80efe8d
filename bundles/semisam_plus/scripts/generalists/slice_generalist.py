"""A 2D SAM as a generalist: prompted slice by slice, the prompts carried along the slices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.imaging.morphology import main_components
from ..common.imaging.prompts import (
    FOREGROUND,
    bounding_boxes,
    confident_points,
    fill_gaps,
    jitter_boxes,
    mask_logits,
    negative_points,
)
from ..common.sam.build import SamModel, build_sam
from ..common.sam.prompted_slices import PromptedSlices, SlicePrompts
from ..common.sam.weights.known import file_sha256, find_weights
from .consultation import Answer, Generalist
from .learned_prompt import LEARNED, LearnedPrompt, Lesson, learn_prompt

PROMPTS = ("box", "point", "mask", "box+point", "box+mask")


class SliceGeneralist(Generalist):
    """Ask a SAM about every slice where the specialist sees a structure; the masks of its main components are united.

    Presence is the specialist's decision: a slice where it sees nothing stays empty, unless it lies in a gap between
    slices where it does.

    Args:
        sam: name of a SAM family member, or a `SamModel`.
        prompt: of `PROMPTS` or "learned" (a mask and what `learn` has found), or several with commas, which the members
            take in turn.
        members: how many masks of differing prompts: after one of each kind come jittered boxes and other points. A
            mask alone has one, as what is learnt has.
        jitter: largest move of a box's edge, as a share of the box's side.
        component_share, min_size: of boxes, see `component_boxes`.
        padding: of boxes; None takes what suits the weights.
        points, negative_points: of a prompt with points, inside and outside.
        confidence: of the points; see `confident_points`.
        max_gap: slices in a row that prompts are carried over.
        min_voxels: a class of fewer in the whole volume is not asked about.
        checkpoint, image_size: of `build_sam`, where `sam` is a name.
        slice_axis, batch_size, amp: of `PromptedSlices`.

    Raises:
        InputError: unknown prompt or sam, or weights missing, of the wrong sha256 or not matching.
    """

    def __init__(
        self,
        sam: str | SamModel,
        prompt: str = "box",
        members: int = 3,
        jitter: float = 0.15,
        component_share: float = 0.2,
        max_components: int = 4,
        padding: float | None = None,
        min_size: float = 3.0,
        points: int = 1,
        negative_points: int = 0,
        confidence: float = 0.9,
        max_gap: int = 3,
        min_voxels: int = 16,
        checkpoint: str | Path | None = None,
        image_size: int | None = None,
        slice_axis: int = -1,
        batch_size: int = 8,
        amp: bool | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        kinds = [kind.strip() for kind in prompt.split(",")]
        for kind in kinds:
            if kind not in (*PROMPTS, LEARNED):
                raise InputError(f"prompt: found {kind!r}, wanted one of {', '.join((*PROMPTS, LEARNED))}")
        if members < 1:
            raise InputError(f"members: found {members}, wanted at least 1")
        self.sha256 = "given"
        if not isinstance(sam, str):
            model = sam
        else:
            model = build_sam(sam, checkpoint, image_size)
            self.sha256 = file_sha256(find_weights(sam, checkpoint))
        understood = [model.prompts.understood(kind) for kind in kinds]
        self.kinds = list(dict.fromkeys(understood))
        self.prompt = ", ".join(self.kinds)
        if understood != kinds:
            _say_once(f"{model.name} understands {model.prompts}: prompt {prompt!r} becomes {self.prompt!r}")
        self.members = 1 if self.kinds in (["mask"], [LEARNED]) else max(members, len(self.kinds))
        self.learned: LearnedPrompt | None = None
        self.padding = model.prompts.box_margin if padding is None else padding
        self.max_components = max_components
        self.jitter, self.component_share, self.min_size = jitter, component_share, min_size
        self.points, self.negative_points, self.confidence = points, negative_points, confidence
        self.max_gap, self.min_voxels, self.seed = max_gap, min_voxels, seed
        self.slices = PromptedSlices(model.to(device), slice_axis, batch_size, amp)

    @property
    def identity(self) -> dict[str, Any]:
        """Keywords of `FeatureCache`."""
        sam = self.slices.sam
        size = sam.preprocessing.image_size
        axis, amp = self.slices.slice_axis, self.slices.amp
        return {
            "sam_name": sam.name,
            "checkpoint_sha256": self.sha256,
            **{"image_size": size, "slice_axis": axis, "amp": amp, "padded": True},
        }

    def embed(self, image: Tensor) -> Tensor:
        """Encode all slices of [1, 1, H, W, D] in [0, 1] -> [slices, C, s, s] float32."""
        return self.slices.encode(image)

    @property
    def learns(self) -> bool:
        return LEARNED in self.kinds

    @property
    def ready(self) -> bool:
        return not self.learns or self.learned is not None

    def learn(self, lessons: Sequence[Lesson]) -> None:
        """Learn the prompts anew from labelled volumes; see `learn_prompt`."""
        self.learned = learn_prompt(self.slices, lessons, self.seed)

    @torch.no_grad()
    def answer(self, embedding: Tensor, probabilities: Tensor) -> Answer:
        """Answer prompts made from the specialist's probabilities [K, H, W, D]; raise InputError unless `ready`."""
        if not self.ready:
            raise InputError(f"prompt: {self.prompt}: nothing was learnt yet; wanted `learn` before `answer`")
        # [K-1, slices, rows, columns]
        maps = probabilities[1:].as_subclass(Tensor).detach().float().movedim(self.slices.slice_axis, 1)
        members = maps.new_zeros((self.members, *maps.shape))
        asked = (maps > FOREGROUND).flatten(1).sum(1) >= max(self.min_voxels, 1)
        # members of one kind are decoded together
        prompts: dict[str, list[tuple[tuple[int, int, int], dict[str, Tensor]]]] = {kind: [] for kind in self.kinds}
        for index in asked.nonzero()[:, 0].tolist():
            # a class's prompts don't depend on what else was asked
            generator = torch.Generator().manual_seed(self.seed + index)
            filled = fill_gaps(maps[index], 0, self.max_gap)
            for place in (filled > FOREGROUND).flatten(1).any(1).nonzero()[:, 0].tolist():
                for member, parts in enumerate(self._slice_prompts(filled[place], generator)):
                    prompts[self._kind(member)] += [((member, index, place), part) for part in parts]
        for kind, made in prompts.items():
            if not made:
                continue
            stacked = {name: torch.stack([part[name] for _, part in made]) for name in made[0][1]}
            places = torch.tensor([place for (_, _, place), _ in made])
            if kind == LEARNED:
                classes = torch.tensor([index for (_, index, _), _ in made])
                stacked["tokens"] = self.learned(embedding[places].to(self.slices.device), classes)
            wanted = SlicePrompts(places, **stacked)
            masks = self.slices.decode(embedding, wanted, maps.shape[-2:]).to(maps)
            for (unit, _), mask in zip(made, masks, strict=True):
                members[unit] = torch.maximum(members[unit], mask)
        return Answer(members.movedim(2, self.slices.slice_axis), asked)

    def _kind(self, member: int) -> str:
        return self.kinds[member % len(self.kinds)]

    def _slice_prompts(self, q: Tensor, generator: torch.Generator) -> list[list[dict[str, Tensor]]]:
        """Return, for each member, the prompts of a slice's map [H, W]: one for each main component."""
        components = main_components(q > FOREGROUND, self.component_share)[: self.max_components]
        boxes = bounding_boxes(components, self.padding, self.min_size)
        # the first of each kind is the plain one
        plain = boxes.expand(len(self.kinds) - 1, -1, -1)
        jittered = jitter_boxes(boxes, self.members - len(plain), q.shape, generator, self.jitter)
        boxes = torch.cat([plain, jittered])
        prompts: list[list[dict[str, Tensor]]] = [[] for _ in range(self.members)]
        for index in range(len(components)):
            others = components.clone()
            others[index] = False
            own = q * ~others.any(0)
            for member, found in enumerate(prompts):
                part, kind = {}, self._kind(member).split("+")
                if LEARNED in kind and index == 0:  # once for the slice: the class is told, not the piece
                    found.append({"masks": mask_logits(q)})
                if LEARNED in kind:
                    continue
                if "box" in kind:
                    part["boxes"] = boxes[member, index]
                if "point" in kind:
                    part["points"], part["labels"] = self._points(own, generator if member >= len(self.kinds) else None)
                if "mask" in kind:
                    part["masks"] = mask_logits(own)
                found.append(part)
        return prompts

    def _points(self, q: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        inside = confident_points(q, self.points, self.confidence, generator)
        outside = negative_points(q, self.negative_points, self.confidence, generator=generator)
        count = self.points + self.negative_points
        points, labels = q.new_zeros(count, 2), q.new_full((count,), -1)
        points[: len(inside) + len(outside)] = torch.cat([inside, outside])
        labels[: len(inside)] = 1
        labels[len(inside) : len(inside) + len(outside)] = 0
        return points, labels


@cache
def _say_once(line: str) -> None:
    logging.getLogger(__name__).warning(line)
