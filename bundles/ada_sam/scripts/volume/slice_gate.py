"""On which slices of a volume a structure is: they follow one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy import ndimage
from torch import Tensor

from ..common.imaging.cam import smooth_gate
from ..common.imaging.morphology import gaussian_smooth


def gate_slices(
    logits: Tensor,
    sigma: float,
    hysteresis: Sequence[float],
    one_run: Sequence[int],
    extents: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return on which slices each class is, from its logits along the volume.

    Args:
        logits: [P, n].
        sigma, hysteresis: see `smooth_gate`.
        one_run: indices 0 to P - 1 of the classes that are on one run of slices.
        extents: [P, 2], on how many slices a class is at least and at most; None or a most of 0: unknown.

    Returns:
        gate: bool [P, n].
        runs: int64 [P], how many runs there were of each class before one was chosen.
    """
    if extents is not None:
        logits = within_extents(logits, sigma, extents)
    found = smooth_gate(logits, sigma, hysteresis=hysteresis)
    longest, runs = longest_runs(found, logits.sigmoid())
    gate = found.clone()
    gate[list(one_run)] = longest[list(one_run)]
    return gate, runs


def within_extents(logits: Tensor, sigma: float, extents: Tensor) -> Tensor:
    """Shift the logits [P, n] of a volume so that, smoothed, as many of a class are above 0 as its extents allow.

    On a scan that looks unlike those learnt from, the order of the slices is right more often than their level.

    Args:
        extents: [P, 2], see `gate_slices`.
    """
    smooth = gaussian_smooth(logits.float()[:, :, None, None], [sigma, 0, 0])[..., 0, 0]
    shifted = logits.clone()
    for row, (fewest, most) in enumerate(extents.tolist()):
        ranked = smooth[row].sort(descending=True).values
        count = int((ranked > 0).sum())
        wanted = int(min(max(count, fewest), most, len(ranked)))
        if most <= 0 or wanted == count:
            continue
        after = ranked[wanted] if wanted < len(ranked) else ranked[-1] - 1
        before = ranked[wanted - 1] if wanted > 0 else ranked[0] + 1
        shifted[row] -= (before + after) / 2
    return shifted


def longest_runs(found: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
    """Keep of each class's runs of slices the one with the highest sum of probabilities.

    With probabilities alike it is the longest one; a longer one of lower probabilities has to be so much longer.

    Args:
        found: bool [P, n].
        presence: [P, n] in [0, 1].

    Returns:
        kept: bool [P, n].
        runs: int64 [P], how many there were.
    """
    kept, runs = torch.zeros_like(found), torch.zeros(len(found), dtype=torch.long, device=found.device)
    for row, there in enumerate(found.cpu().numpy()):
        parts, count = ndimage.label(there)
        runs[row] = count
        if count:
            sums = ndimage.sum_labels(presence[row].cpu().numpy(), parts, range(1, count + 1))
            kept[row] = torch.from_numpy(parts == 1 + sums.argmax()).to(found.device)
    return kept, runs


def on_slices(gate: Tensor, slice_axis: int) -> Tensor:
    """Lay a gate [P, n] along the slice axis of a volume: [P, n, 1, 1], with n at its axis."""
    shape = [len(gate), 1, 1, 1]
    shape[slice_axis + 1] = gate.shape[1]
    return gate.view(shape)


def smooth_between(maps: Tensor, gate: Tensor, slice_axis: int, sigma: float) -> Tensor:
    """Smooth maps along the slices, each class among the slices of its gate alone.

    The zeros behind a structure's ends don't make its ends faint.

    Args:
        maps: [P, H, W, D].
        gate: bool [P, n].
        sigma: of the Gaussian, in slices; 0 for none.

    Returns:
        [P, H, W, D], 0 outside the gate.
    """
    inside = on_slices(gate, slice_axis).to(maps)
    maps = maps * inside
    if sigma == 0:
        return maps
    along = [sigma if axis == slice_axis else 0.0 for axis in range(3)]
    return gaussian_smooth(maps, along) / gaussian_smooth(inside, along).clamp_min(1e-6) * inside
