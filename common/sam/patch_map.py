"""A coarse map of each structure on a SAM's features, as a dense prompt of its mask decoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..learning.channel_norm import ChannelNorm
from .build import SamModel
from .members.preprocessing import Preprocessing


class PatchMap(nn.Module):
    """Say in which patches of the encoder's square a structure is, and make a dense prompt of that (SPPG of ESP-MedSAM,
    Xu et al. 2024).

    A map has half the features' rows and columns; where it is above 0.5 a learnt vector is added. No gradient of the
    masks reaches the map: it has a loss of its own, see `largest_of_patches`.

    Args:
        sam: whose features and decoder these are; none of it is kept.
        structures: P.
        width: channels between the features and the map.
    """

    def __init__(self, sam: SamModel, structures: int, width: int = 64) -> None:
        super().__init__()
        channels = sam.prompt_encoder.no_mask_embed.weight.shape[1]
        self.channels = channels
        self.map = nn.Sequential(
            nn.Conv2d(channels, width, 2, 2), ChannelNorm(width), nn.GELU(), nn.Conv2d(width, structures, 1)
        )
        self.embed = nn.Sequential(nn.Conv3d(1, channels, 1), ChannelNorm(channels), nn.GELU())

    def patches(self, features: Tensor) -> Tensor:
        """Return the logits [N, P, h / 2, w / 2] of features [N, C, h, w], padding included."""
        return self.map(features)

    def prompt(self, there: Tensor, size: Sequence[int]) -> Tensor:
        """Return dense prompts [N, P, C, h, w], of the features' size, for patches bool [N, P, h / 2, w / 2]."""
        there = F.interpolate(there.float(), tuple(size), mode="nearest")
        return self.embed(there[:, None]).transpose(1, 2)  # [N, C, P, h, w] -> [N, P, C, h, w]


def largest_of_patches(maps: Tensor, preprocessing: Preprocessing, size: Sequence[int]) -> Tensor:
    """Return the largest value of each patch of the encoder's square, 0 in its padding.

    Args:
        maps: [N, P, rows, columns] of slices, 0 or more: masks as 0 and 1, or probabilities.
        preprocessing: of the SAM; its square is image_size x image_size.
        size: rows and columns of patches.

    Returns:
        [N, P, *size] float32.
    """
    rows, columns = preprocessing.resized_size(*maps.shape[2:])
    maps = F.interpolate(maps.float(), (rows, columns), mode="nearest")
    side = preprocessing.image_size
    square = F.pad(maps, (0, side - columns, 0, side - rows))
    return F.adaptive_max_pool2d(square, tuple(size))
