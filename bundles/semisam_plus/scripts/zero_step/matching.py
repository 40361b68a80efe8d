"""In-plane alignment of two slices by the features of a frozen SAM: where each place of one lies in the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def match_slices(query: Tensor, support: Tensor, reach: int = 1, temperature: float = 0.1, smooth: int = 2) -> Tensor:
    """Return how far away the match of each place of a query slice lies in its support slice, [P, 2, r, c], places.

    A place is compared, by the cosine, with all places of the other slice within reach, and its displacement is their
    mean weighted by the softmax. What the slice says so of itself is taken off: neither the edge, which has places on
    one side alone, nor what looks alike everywhere is a displacement.

    Args:
        query, support: features [P, C, r, c] of P pairs, each without the mean over its scan.
        reach: places along each axis.
        temperature: of the softmax.
        smooth: times that the field is averaged over 3 x 3 places.
    """
    field = _mean_displacement(query, support, reach, temperature) - _mean_displacement(
        query, query, reach, temperature
    )
    for _ in range(smooth):
        field = F.avg_pool2d(F.pad(field, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return field


def _mean_displacement(query: Tensor, support: Tensor, reach: int, temperature: float) -> Tensor:
    rows, columns = query.shape[-2:]
    places = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")).flatten(1)
    away = (places[:, None, :] - places[:, :, None]).to(query)  # [2, of the query, of the support]
    near = away.abs().amax(0) <= reach
    alike = F.normalize(query.flatten(2), dim=1).mT @ F.normalize(support.flatten(2), dim=1) / temperature
    weight = alike.masked_fill(~near, float("-inf")).softmax(-1)
    return torch.einsum("pqs,dqs->pdq", weight, away).unflatten(2, (rows, columns))


def bring_masks(masks: Tensor, field: Tensor) -> Tensor:
    """Return masks [P, K, H, W] of support slices as they lie in their query slices.

    Args:
        field: [P, 2, r, c] of `match_slices`, whose places cover the same slice.
    """
    size = masks.shape[-2:]
    share = field * (2 / field.new_tensor(field.shape[-2:])).view(1, 2, 1, 1)  # of half the slice
    share = F.interpolate(share, size, mode="bilinear", align_corners=False)
    own = F.affine_grid(torch.eye(2, 3).to(field).expand(len(masks), 2, 3), [len(masks), 1, *size], align_corners=False)
    # grid_sample wants columns before rows
    return F.grid_sample(masks, own + share.flip(1).permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
