"""The interaction of SemiSAM+ with a 3D generalist: clicks where its last mask differs from the specialist's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.imaging.prompts import FOREGROUND, Click, error_click, mask_logits
from ..common.sam.med3d.build import SamMed3D

DEEP_CLICKS = 2  # the first clicks go deep into the larger error region, later ones anywhere where it is wrong


def click_loop(
    sam: SamMed3D,
    embedding: Tensor,
    targets: Tensor,
    clicks: int,
    generators: Sequence[torch.Generator],
    confidence: float | None = None,
) -> Tensor:
    """Return the mask after each click (spec 5.2); one new click a time, the last logits are the mask prompt.

    Args:
        embedding: [1, C, s, s, s] of one volume.
        targets: [B, S, S, S] the specialist's probability of B structures, each with a voxel above 0.5.
        clicks: K.
        generators: one (CPU) for each structure, so that none depends on the others.
        confidence: the first click falls where the specialist's probability is above this, if anywhere; None for off.

    Returns:
        probabilities [K, B, S, S, S].
    """
    wanted = targets > FOREGROUND
    state = torch.zeros_like(targets)
    logits = targets.new_zeros(len(targets), 1, *[sam.mask_size] * 3)  # SAM-Med3D starts from zeros, not from no mask
    states = []
    for number in range(clicks):
        chosen = []
        for index, generator in enumerate(generators):
            target = wanted[index]
            if number == 0 and confidence is not None and bool((targets[index] > confidence).any()):
                target = targets[index] > confidence
            chosen.append(error_click(target, state[index], generator, deep=number < DEEP_CLICKS))
        logits = sam.decode(embedding, _points(chosen, targets), logits)
        state = upsample(logits, targets.shape[-1])
        states.append(state)
    return torch.stack(states)


def single_clicks(
    sam: SamMed3D, embedding: Tensor, targets: Tensor, count: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Return the masks [count, B, S, S, S] of as many independent first clicks (spec O8); arguments as `click_loop`."""
    return torch.cat([click_loop(sam, embedding, targets, 1, generators) for _ in range(count)])


def mask_answer(sam: SamMed3D, embedding: Tensor, targets: Tensor) -> Tensor:
    """Return the masks [1, B, S, S, S] after the specialist's maps as mask prompts, as logits (spec 5.3)."""
    prompt = F.interpolate(mask_logits(targets)[:, None], [sam.mask_size] * 3, mode="trilinear", align_corners=False)
    return upsample(sam.decode(embedding, None, prompt), targets.shape[-1])[None]


def upsample(logits: Tensor, size: int) -> Tensor:
    """Turn low-resolution logits [B, 1, m, m, m] into probabilities [B, size, size, size]."""
    return F.interpolate(logits.float(), [size] * 3, mode="trilinear", align_corners=False)[:, 0].sigmoid()


def _points(clicks: Sequence[Click | None], like: Tensor) -> tuple[Tensor, Tensor]:
    """Clicks to coordinates [B, 1, 3] and labels [B, 1]; label -1 stands for no click."""
    coordinates = [click.voxel if click else (0, 0, 0) for click in clicks]
    labels = [click.label if click else -1 for click in clicks]
    return like.new_tensor(coordinates)[:, None], like.new_tensor(labels)[:, None]
