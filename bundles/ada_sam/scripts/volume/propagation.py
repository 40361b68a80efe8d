"""Middle out: from the slice that is surest, hand the mask on to its neighbours as their prompt."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..common.slices.middle_out import walk_outwards
from ..slice_model.slice_prompts import cam_boxes
from .box_track import grow_boxes, unite_boxes

# slices int64 [N], boxes [N, 4], masks [N, rows, columns] logits or None -> logits [N, rows, columns]
Ask = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def choose_seed(confidence: Tensor, gate: Tensor, areas: Tensor) -> int | None:
    """Return the slice to start from: the most confident one of those of at least median area; None without a mask.

    The ends of a structure are small, and small masks are easily sure of themselves.

    Args:
        confidence: [n].
        gate: bool [n], the slices that have the structure.
        areas: [n], of its masks, any unit.
    """
    eligible = gate & (areas > 0)
    if not bool(eligible.any()):
        return None
    eligible &= areas >= areas[eligible].float().quantile(0.5)
    return int(torch.where(eligible, confidence.float(), -1.0).argmax())


def propagate(
    ask: Ask,
    logits: Tensor,
    boxes: Tensor,
    gate: Tensor,
    seed: int | None,
    reach: float = 2.0,
    share: float = 0.5,
    mask_prompt: bool = True,
    unite: bool = True,
) -> Tensor:
    """Hand a structure's mask on from its seed to both sides, slice by slice.

    A slice is asked with the box around its neighbour's mask dilated by `reach`, united with its own, and with that
    mask as the mask prompt. It keeps a part of what it was before, so that an error isn't handed on undiminished.
    Beside an empty neighbour it stays as it is. Both directions go in step.

    Args:
        ask: answers prompts on some slices.
        logits: [n, rows, columns], the answers so far.
        boxes: [n, 4], each slice's own.
        gate: bool [n]; slices outside are neither asked nor crossed.
        seed: of `choose_seed`; None hands nothing on.
        reach: voxels by which a mask is dilated from slice to slice.
        share: of the new answer in the result, 0 to 1; 1 replaces the earlier one.
        mask_prompt: give the mask prompt, else the box alone.
        unite: take the union of boxes, else the neighbour's alone.

    Returns:
        [n, rows, columns] logits, those of the seed and of slices outside the gate unchanged.
    """
    logits = logits.clone()
    rows, columns = logits.shape[-2:]
    for steps in walk_outwards(seed, gate.tolist()):
        handed = torch.stack([logits[z] for z, _ in steps])
        tight, there = cam_boxes(handed.sigmoid(), threshold=0.5, padding=0.0, min_size=1.0)
        if bool(there.any()):
            asked = torch.tensor([z for _, z in steps], device=logits.device)[there]
            near = grow_boxes(tight[there], reach, (rows, columns))
            prompts = unite_boxes(boxes[asked], near) if unite else near
            answers = ask(asked, prompts, handed[there] if mask_prompt else None)
            logits[asked] = share * answers + (1 - share) * logits[asked]
    return logits
