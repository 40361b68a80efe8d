"""How alike two volumes are, in float32: the variances inside the local correlation cancel in half precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LocalNCCLoss(nn.Module):
    """Negative squared local normalised cross correlation, mean over voxels, by products with banded matrices.

    Equal to `monai.losses.LocalNormalizedCrossCorrelationLoss` with a rectangular kernel; the box sums are matrix
    products along each axis, which on a CPU cost less than half of its convolutions.

    Args:
        kernel_size: side of the cubic window, voxels, odd.
    """

    def __init__(self, kernel_size: int = 7, smooth_nr: float = 0.0, smooth_dr: float = 1e-5) -> None:
        super().__init__()
        if kernel_size % 2 != 1:
            raise ValueError(f"kernel_size is {kernel_size}; wanted an odd number")
        self.kernel_size, self.smooth_nr, self.smooth_dr = kernel_size, smooth_nr, smooth_dr
        self._bands: dict[tuple[int, torch.device], Tensor] = {}

    def _band(self, size: int, device: torch.device) -> Tensor:
        key = (size, device)
        if key not in self._bands:
            index = torch.arange(size, device=device)
            self._bands[key] = ((index[:, None] - index[None]).abs() <= self.kernel_size // 2).float()
        return self._bands[key]

    def _box_sum(self, maps: Tensor) -> Tensor:
        n, h, w, d = maps.shape
        maps = maps @ self._band(d, maps.device)
        maps = self._band(w, maps.device) @ maps
        return (self._band(h, maps.device) @ maps.reshape(n, h, w * d)).reshape(n, h, w, d)

    def correlation(self, pred: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the squared correlation in the window around each voxel, [B, H, W, D]; see `per_case`."""
        pred, target = pred.float()[:, 0], target.float()[:, 0]
        maps = [target, pred, target * target, pred * pred, target * pred]
        if known is not None:
            known = known.float()[:, 0]
            maps = [one * known for one in maps] + [known]
        # autocast would take the products in bfloat16, and the differences below would be noise
        with torch.autocast(pred.device.type, enabled=False):
            t, p, t2, p2, tp, *counted = self._box_sum(torch.cat(maps)).chunk(len(maps))
        volume = counted[0].clamp_min(1.0) if counted else float(self.kernel_size**3)
        cross = tp - p * t / volume
        t_var = (t2 - t * t / volume).clamp_min(self.smooth_dr)
        p_var = (p2 - p * p / volume).clamp_min(self.smooth_dr)
        return (cross * cross + self.smooth_nr) / (t_var * p_var + self.smooth_dr)

    def per_case(self, pred: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the loss of each case, [B]; pred and target are [B, 1, H, W, D].

        Args:
            known: [B, 1, H, W, D] in [0, 1], 0 where a volume was not scanned: neither windows nor the mean see it.
                None: all was.
        """
        ncc = self.correlation(pred, target, known)
        if known is not None:
            known = known.float()[:, 0]
            return -(ncc * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1.0)
        return -ncc.flatten(1).mean(1)

    def forward(self, pred: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
        return self.per_case(pred, target, known).mean()


def global_ncc(pred: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the correlation of each case over the whole volume, or where it is known, [B]; all [B, 1, H, W, D]."""
    pred, target = pred.flatten(1).float(), target.flatten(1).float()
    if known is None:
        pred, target = pred - pred.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    else:
        known = known.flatten(1).float()
        share = known / known.sum(1, keepdim=True).clamp_min(1.0)
        pred, target = ((one - (one * share).sum(1, keepdim=True)) * known for one in (pred, target))
    return (pred * target).sum(1) / (pred.norm(dim=1) * target.norm(dim=1) + 1e-6)


def foreground_dice_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Return 1 - soft Dice, mean over the foreground classes, of each case [B]; inputs [B, K, H, W, D]."""
    pred, target = pred[:, 1:].flatten(2), target[:, 1:].float().flatten(2)
    overlap = 2 * (pred * target).sum(2) / (pred.sum(2) + target.sum(2)).clamp_min(1e-5)
    return 1 - overlap.mean(1)
