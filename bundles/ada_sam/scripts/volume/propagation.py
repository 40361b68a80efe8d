"""Middle out: from the slice that is surest, hand the mask on to its neighbours as their prompt."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..slice_model.slice_prompts import batch_boxes
from .box_track import grow_boxes, unite_boxes

# slices int64 [N], boxes [N, P, 4], masks [N, P, rows, columns] logits or None, asked bool [N, P] -> logits
Ask = Callable[[Tensor, Tensor, Tensor | None, Tensor], Tensor]


def choose_seeds(confidence: Tensor, gate: Tensor, areas: Tensor) -> list[int | None]:
    """Return for each class the slice to start from: the most confident one of those of at least median area.

    The ends of a structure are small, and small masks are easily sure of themselves.

    Args:
        confidence: [P, n].
        gate: bool [P, n], the slices that have the class.
        areas: [P, n], of its masks, any unit.

    Returns:
        P slices; None for a class that no slice has a mask of.
    """
    seeds: list[int | None] = []
    for sure, there, area in zip(confidence, gate, areas, strict=True):
        eligible = there & (area > 0)
        if not bool(eligible.any()):
            seeds.append(None)
            continue
        eligible &= area >= area[eligible].float().quantile(0.5)
        seeds.append(int(torch.where(eligible, sure.float(), -1.0).argmax()))
    return seeds


def propagate(
    ask: Ask,
    logits: Tensor,
    boxes: Tensor,
    gate: Tensor,
    seeds: list[int | None],
    reach: float = 2.0,
    share: float = 0.5,
    mask_prompt: bool = True,
    unite: bool = True,
) -> Tensor:
    """Ask every slice anew with what its neighbour nearer to the seed has become, outwards along the volume.

    A slice's box is the union of its own and the one around the neighbour's dilated mask, its mask prompt the
    neighbour's logits. What it answers is averaged with its own earlier answer, so that an error isn't handed on
    undiminished. Beside an empty neighbour a slice stays as it is. All classes and both directions go in step.

    Args:
        ask: answers prompts on some slices.
        logits: [n, P, rows, columns], the answers so far.
        boxes: [n, P, 4], each slice's own.
        gate: bool [P, n]; slices outside are neither asked nor crossed.
        seeds: of `choose_seeds`.
        reach: voxels by which a mask is dilated from slice to slice.
        share: of the new answer in the result, 0 to 1; 1 replaces the earlier one.
        mask_prompt: give the mask prompt, else the box alone.
        unite: take the union of boxes, else the neighbour's alone.

    Returns:
        [n, P, rows, columns] logits, those of the seeds and of slices outside the gate unchanged.
    """
    logits = logits.clone()
    size = tuple(logits.shape[-2:])
    # a class's two fronts: (class, the slice whose mask is handed on, direction)
    fronts = [(label, seed, step) for label, seed in enumerate(seeds) if seed is not None for step in (-1, 1)]
    while fronts:
        moved = [(label, before, before + step, step) for label, before, step in fronts]
        moved = [m for m in moved if 0 <= m[2] < len(logits) and bool(gate[m[0], m[2]])]
        handed = logits.new_zeros((len(moved), 1, *size))
        for row, (label, before, _, _) in enumerate(moved):
            handed[row, 0] = logits[before, label]
        tight, there = batch_boxes(handed.sigmoid(), threshold=0.5, padding=0.0, min_size=1.0)
        near = grow_boxes(tight, reach, size)
        _ask_front(ask, logits, boxes, moved, handed[:, 0], near[:, 0], there[:, 0], share, mask_prompt, unite)
        fronts = [(label, after, step) for label, _, after, step in moved]
    return logits


def _ask_front(
    ask: Ask,
    logits: Tensor,
    boxes: Tensor,
    moved: list[tuple[int, int, int, int]],
    handed: Tensor,
    near: Tensor,
    there: Tensor,
    share: float,
    mask_prompt: bool,
    unite: bool,
) -> None:
    """Ask the slices of one step together and write what they have become into `logits`."""
    rows = [row for row in range(len(moved)) if bool(there[row])]
    slices = sorted({moved[row][2] for row in rows})
    if not slices:
        return
    place = {z: index for index, z in enumerate(slices)}
    index = torch.tensor(slices, device=logits.device)
    asked = torch.zeros((len(slices), logits.shape[1]), dtype=torch.bool, device=logits.device)
    prompts, masks = boxes[index].clone(), logits[index].clone()
    for row in rows:
        label, _, after, _ = moved[row]
        asked[place[after], label] = True
        own = prompts[place[after], label]
        prompts[place[after], label] = unite_boxes(own, near[row]) if unite else near[row]
        masks[place[after], label] = handed[row]
    answers = ask(index, prompts, masks if mask_prompt else None, asked)
    mixed = share * answers + (1 - share) * logits[index]
    logits[index] = torch.where(asked[..., None, None], mixed, logits[index])
