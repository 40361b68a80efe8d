"""Bridges: unlabelled volumes that the atlas reaches well hand its label on to those that it reaches badly.

Goes beyond the paper. Propagation through intermediate scans is LEAP (Wolz et al., NeuroImage 2010), the vote over
several of them MAGeT (Chakravarty et al., Human Brain Mapping 2013). What one hard registration gets wrong, several
easy ones get wrong in different ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..pseudo_labels.opinions import agreement_by_class, fuse
from ..registration.affine import register_affine
from ..registration.deformation import coarse_velocity
from ..registration.fields import integrate, total_ddf, warp
from ..tensors import known_share, unless_all


def choose_bridges(similarity: Mapping[str, float], count: int) -> list[str]:
    """Return the `count` cases that the atlas resembles most after its registration to them."""
    return sorted(similarity, key=lambda case: (-similarity[case], case))[:count]


def hand_on(
    fixed: Tensor,
    bridge: Tensor,
    label: Tensor,
    steps: int,
    inside: Tensor | None = None,
) -> Tensor:
    """Return the label of a bridge [1, K, H, W, D], registered to another volume, [K, H, W, D].

    Affine, search and `steps` of instance optimisation on half the grid: the vote over bridges takes out what is left,
    so that the full grid does not pay here.

    Args:
        fixed, bridge: [1, 1, H, W, D] in [0, 1].
        inside: [1, 1, H, W, D], 0 where the other volume was not scanned; None: all was. Of the bridge that says the
            label, whose classes are all 0 there. So they are in the result.
    """
    inside = torch.ones_like(fixed) if inside is None else inside
    known = {"fixed_known": unless_all(inside), "moving_known": unless_all(known_share(label))}
    affine = register_affine(fixed, bridge, steps=40, **known)
    velocity = coarse_velocity(fixed, bridge, affine, steps, **known)
    size = tuple(fixed.shape[2:])
    with torch.no_grad():
        return (warp(label, total_ddf(affine, integrate(velocity, size), size)) * inside)[0]


def vote(opinions: Sequence[Tensor], classes: Sequence[int]) -> tuple[Tensor, dict[int, float]]:
    """Return the mean of labels [K, H, W, D] of one case, and how far they agree with it: the mean Dice of each class.

    Args:
        classes: see `agreement_by_class`.
    """
    fused = fuse(opinions)
    found = [agreement_by_class(opinion, fused, classes) for opinion in opinions]
    return fused, {number: sum(one[number] for one in found) / len(found) for number in classes}
