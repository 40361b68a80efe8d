"""Class activation maps in closed form, their range over a volume, and the gate along its slices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..tensors import match_grid
from .morphology import gaussian_smooth
from .thresholds import hysteresis as keep_touching

POOLINGS = ("mean", "top")
SCOPES = ("volume", "slice")


class CamHead(nn.Module):
    """A slice classifier whose logit is pooled from a map, so that the map is the class activation map itself.

    Without hidden channels and with mean pooling the logit equals that of a linear layer on pooled features, and the
    map that of Zhou et al. 2016 (no ReLU), as in WeakMedSAM.

    Args:
        in_channels: D of the features.
        classes: of the logits and maps.
        hidden: channels of a 3x3 convolution with GELU in front; 0 for none.
        pooling: "mean", or "top" for the mean of the highest `top_share` of a map.
        bias: of the last layer; a bias moves a map, not its shape.

    forward: features [N, D, h, w] -> logits [N, classes], maps [N, classes, h, w]

    Raises:
        InputError: another pooling, or a share outside 0 to 1.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        hidden: int = 0,
        pooling: str = "mean",
        top_share: float = 0.1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise InputError(f"pooling: found {pooling!r}, wanted one of {', '.join(POOLINGS)}")
        if not 0 < top_share <= 1:
            raise InputError(f"top_share: found {top_share}, wanted a number above 0 and at most 1")
        self.pooling, self.top_share = pooling, top_share
        self.trunk = nn.Identity()
        if hidden:
            self.trunk = nn.Sequential(nn.Conv2d(in_channels, hidden, 3, padding=1), nn.GELU())
        self.last = nn.Conv2d(hidden or in_channels, classes, 1, bias=bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.last(self.trunk(features))
        return pool(maps, self.pooling, self.top_share), maps


def pool(maps: Tensor, pooling: str = "mean", top_share: float = 0.1) -> Tensor:
    """Pool maps [N, P, h, w] to logits [N, P]: their mean, or ("top") the mean of their highest share."""
    values = maps.flatten(2)
    if pooling == "mean":
        return values.mean(2)
    return values.topk(max(1, round(top_share * values.shape[2])), dim=2).values.mean(2)


def normalise_maps(
    maps: Tensor,
    bits: Tensor | None = None,
    scope: str = "volume",
    percentiles: Sequence[float] = (0.0, 100.0),
) -> Tensor:
    """Bring the maps of a volume's slices to [0, 1].

    Args:
        maps: [n, P, h, w], one for each slice and class.
        bits: bool [P, n], on which slices a class is; maps of the others become 0. None: on all.
        scope: "volume" takes a class's range over all its slices together, so that a faint slice stays faint; "slice"
            over each slice alone, as published, where every slice reaches 1.
        percentiles: of the range; what lies beyond is clipped.

    Returns:
        [n, P, h, w] float32.

    Raises:
        InputError: another scope, or shapes that don't belong together.
    """
    if scope not in SCOPES:
        raise InputError(f"scope: found {scope!r}, wanted one of {', '.join(SCOPES)}")
    if bits is not None and tuple(bits.shape) != (maps.shape[1], maps.shape[0]):
        raise InputError(f"normalise_maps: found maps {tuple(maps.shape)}, bits {tuple(bits.shape)}, wanted [P, n]")
    maps = maps.as_subclass(Tensor).float()
    shown = maps.new_ones(maps.shape[:2], dtype=torch.bool) if bits is None else bits.to(maps.device).bool().T  # [n, P]
    result = torch.zeros_like(maps)
    if scope == "slice":
        result[shown] = _stretch(maps[shown].flatten(1), percentiles).view(-1, *maps.shape[2:])
        return result
    for label in range(maps.shape[1]):
        where = shown[:, label]
        if bool(where.any()):
            own = maps[where, label]  # [positive slices, h, w]
            result[where, label] = _stretch(own.reshape(1, -1), percentiles).view_as(own)
    return result


def _stretch(rows: Tensor, percentiles: Sequence[float]) -> Tensor:
    """Bring each row [N, M] to [0, 1] by its own percentiles."""
    if not len(rows):
        return rows
    # not torch.quantile, which takes 16 million values at most
    ranks = [1 + round(share / 100 * (rows.shape[1] - 1)) for share in percentiles]
    low, high = (rows.kthvalue(rank, dim=1, keepdim=True).values for rank in ranks)
    # the 1e-6 as published
    return ((rows - low + 1e-6) / (high - low + 1e-6)).clamp(0, 1)


def smooth_gate(
    logits: Tensor,
    sigma: float = 1.0,
    threshold: float = 0.5,
    hysteresis: Sequence[float] | None = None,
) -> Tensor:
    """Return on which slices a class is, from its logits along the volume.

    Args:
        logits: [P, n], neighbours in n are neighbours in the volume.
        sigma: of the Gaussian that takes out single slices, in slices; 0 for none.
        threshold: of the probability.
        hysteresis: (low, high) in the place of the threshold: runs of slices above low that reach above high.

    Returns:
        bool [P, n].
    """
    probabilities = gaussian_smooth(logits.float()[:, :, None, None], [sigma, 0, 0])[..., 0, 0].sigmoid()
    if hysteresis is None:
        return probabilities > threshold
    return keep_touching(probabilities, min(hysteresis), max(hysteresis))


def maps_to_volume(maps: Tensor, spatial_size: Sequence[int], slice_axis: int) -> Tensor:
    """Put the maps of slices where the slices lie.

    A map covers exactly the field of view of its slice; it is interpolated linearly where it is coarser and averaged
    where it is finer. Fewer maps than slices stand for the centres of equal parts, as `spaced_slices` chooses them.

    Args:
        maps: [n, P, h, w], rows and columns along the first and second of the volume's other axes.
        spatial_size: H, W, D.
        slice_axis: 0, 1 or 2.

    Returns:
        [P, H, W, D] float32.
    """
    planes = maps.as_subclass(Tensor).float().movedim(0, 1)  # [P, n, h, w]
    volume = planes.movedim(1, slice_axis + 1)
    return match_grid(volume[None], tuple(int(n) for n in spatial_size))[0]


def cam_volume(
    maps: Tensor,
    bits: Tensor | None,
    spatial_size: Sequence[int],
    slice_axis: int,
    scope: str = "volume",
    percentiles: Sequence[float] = (0.0, 100.0),
) -> Tensor:
    """Return `maps_to_volume`, then `normalise_maps`: interpolation comes first, so that peaks keep their height.

    Args:
        maps: [n, P, h, w] logits.
        bits: bool [P, slices of the volume], or None.

    Returns:
        [P, H, W, D] float32 in [0, 1], 0 on the slices without the class.
    """
    planes = maps_to_volume(maps, spatial_size, slice_axis).movedim(slice_axis + 1, 0)  # [slices, P, rows, columns]
    return normalise_maps(planes, bits, scope, percentiles).movedim(0, slice_axis + 1)
