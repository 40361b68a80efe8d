"""Registration of one volume to another: affine, then a stationary velocity field; also as the baseline to beat.

Coordinates are voxels of the common grid; a `ddf` [B, 3, H, W, D] says for every voxel of the fixed volume how far
away (in voxels, H, W, D order) the matching point of the moving volume lies. Everything here is float32: the variances
inside the local correlation cancel in half precision.
"""

from __future__ import annotations

import torch
from monai.networks.blocks import DVF2DDF, Warp
from monai.networks.utils import meshgrid_ij
from torch import Tensor, nn
from torch.nn import functional as F

from .discrete import search_displacement
from .mind import mind


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


def smoothness(field: Tensor) -> Tensor:
    """Return the mean squared forward difference of a field [B, 3, H, W, D] of each case, [B] (L_smo, mean of axes)."""
    total = 0.0
    for axis in (2, 3, 4):
        total = total + field.diff(dim=axis).square().flatten(1).mean(1)
    return total / 3


def voxel_grid(spatial_size: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Return the voxel coordinates of a grid, [1, 3, H, W, D]."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in spatial_size]
    return torch.stack(meshgrid_ij(*axes))[None]


def total_ddf(affine: Tensor, ddf: Tensor | None, spatial_size: tuple[int, ...]) -> Tensor:
    """Return the ddf of "first ddf, then affine" so that the moving volume is interpolated only once.

    Args:
        affine: [B, 3, 4], maps centred voxel coordinates of the fixed volume to those of the moving one.
        ddf: [B, 3, H, W, D] voxels, or None.
    """
    grid = voxel_grid(spatial_size, affine.device)
    points = grid if ddf is None else grid + ddf
    centre = (torch.tensor(spatial_size, dtype=torch.float32, device=affine.device) - 1).view(1, 3, 1, 1, 1) / 2
    b = affine.shape[0]
    centred = (points - centre).expand(b, -1, -1, -1, -1).flatten(2)  # [B, 3, N]
    with torch.autocast(affine.device.type, enabled=False):
        mapped = affine[:, :, :3] @ centred + affine[:, :, 3:]
    return mapped.view(b, 3, *spatial_size) + centre - grid


def warp(image: Tensor, ddf: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample image [B, C, H, W, D] at every voxel plus ddf [B, 3, H, W, D] (voxels); outside, the border value."""
    return Warp(mode=mode, padding_mode="border")(image.float(), ddf.float())


def warp_known(image: Tensor, ddf: Tensor, fixed: Tensor | None, moving: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return an image [B, C, H, W, D] warped by ddf, and where it and the fixed volume were both scanned, detached.

    Args:
        fixed, moving: [B, 1, H, W, D] in [0, 1], what was scanned of both volumes; None: all.

    Returns:
        [B, C, H, W, D], and [B, 1, H, W, D] of 0 and 1; None: all.
    """
    if moving is None:
        return warp(image, ddf), fixed
    both = warp(torch.cat([image, moving.to(image)], dim=1), ddf)
    known = (both[:, -1:].detach() > 0.5).float()
    return both[:, :-1], known if fixed is None else known * fixed


def integrate(velocity: Tensor, spatial_size: tuple[int, ...], num_steps: int = 6) -> Tensor:
    """Return the ddf [B, 3, H, W, D] (voxels) of a stationary velocity field given on the same or a coarser grid.

    The velocity is in voxels of its own grid; scaling and squaring is `monai.networks.blocks.DVF2DDF`.
    """
    ddf = DVF2DDF(num_steps=num_steps, mode="bilinear", padding_mode="border")(velocity.float())
    if tuple(ddf.shape[2:]) == tuple(spatial_size):
        return ddf
    ratio = [(full - 1) / max(coarse - 1, 1) for full, coarse in zip(spatial_size, ddf.shape[2:], strict=True)]
    scale = torch.tensor(ratio, device=ddf.device).view(1, 3, 1, 1, 1)
    return F.interpolate(ddf, size=tuple(spatial_size), mode="trilinear", align_corners=True) * scale


def jacobian_determinant(ddf: Tensor) -> Tensor:
    """Return det(I + grad ddf) by forward differences, [B, H-1, W-1, D-1]."""
    columns = []
    for axis in (2, 3, 4):
        step = ddf.diff(dim=axis)
        step = step[:, :, : ddf.shape[2] - 1, : ddf.shape[3] - 1, : ddf.shape[4] - 1]
        columns.append(step)
    jacobian = torch.stack(columns, dim=-1).permute(0, 2, 3, 4, 1, 5)  # [B, h, w, d, component, axis]
    return torch.linalg.det(jacobian + torch.eye(3, device=ddf.device))


def folding_percent(ddf: Tensor) -> Tensor:
    """Return the share of voxels with a non-positive Jacobian determinant, per cent, [B]."""
    return (jacobian_determinant(ddf) <= 0).float().flatten(1).mean(1) * 100


@torch.enable_grad()  # also inside an evaluation
def register_affine(
    fixed: Tensor,
    moving: Tensor,
    steps: int = 60,
    learning_rate: float = 0.02,
    kernel_size: int = 7,
    fixed_known: Tensor | None = None,
    moving_known: Tensor | None = None,
) -> Tensor:
    """Return the affine [B, 3, 4] that brings moving to fixed: global plus local correlation, Adam, two coarse levels.

    Twelve numbers don't need the full grid: a quarter and a half of it reach the same Dice at an eighth of the cost.

    Args:
        fixed, moving: [B, 1, H, W, D] in [0, 1], same grid.
        steps: per level (a quarter of the resolution, then half).
        fixed_known, moving_known: [B, 1, H, W, D], 0 where a volume was not scanned, which has no say; None: all was.
    """
    b, size = fixed.shape[0], torch.tensor(fixed.shape[2:], dtype=torch.float32, device=fixed.device)
    identity = torch.eye(3, 4, device=fixed.device).expand(b, 3, 4)
    delta = torch.zeros(b, 3, 4, device=fixed.device, requires_grad=True)
    local = LocalNCCLoss(kernel_size)
    for factor in (4, 2):
        f, m = (F.avg_pool3d(x.float(), factor) for x in (fixed, moving))
        f_known, m_known = (_pooled(known, factor) for known in (fixed_known, moving_known))
        level = tuple(f.shape[2:])
        # a unit of `delta` moves the border of the volume about as far in the linear part as in the translation
        reach = torch.cat([torch.ones(3, 3, device=f.device), size[:, None] / (2 * factor)], dim=1)
        optimizer = torch.optim.Adam([delta], lr=learning_rate / (1 if factor > 2 else 2))
        for _ in range(steps):
            warped, known = warp_known(m, total_ddf(identity + delta * reach, None, level), f_known, m_known)
            loss = (-global_ncc(warped, f, known) + 0.5 * local.per_case(warped, f, known)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    reach = torch.cat([torch.ones(3, 3, device=fixed.device), size[:, None] / 2], dim=1)
    return (identity + delta * reach).detach()


@torch.enable_grad()
def register_velocity(
    fixed: Tensor,
    moving: Tensor,
    affine: Tensor | None = None,
    steps: int = 30,
    learning_rate: float = 0.1,
    smooth_weight: float = 0.5,
    kernel_size: int = 7,
    velocity: Tensor | None = None,
    fixed_probabilities: Tensor | None = None,
    moving_probabilities: Tensor | None = None,
    guide_weight: float = 1.0,
    coarse_steps: int = 20,
    fixed_known: Tensor | None = None,
    moving_known: Tensor | None = None,
) -> Tensor:
    """Return the half-resolution stationary velocity [B, 3, h, w, d] that brings the affinely aligned moving to fixed.

    This is instance optimisation, one optimisation a case without a network. With probabilities [B, K, H, W, D] of both
    volumes, the Dice of their foreground joins the similarity ("guided" registration).

    Args:
        fixed, moving: [B, 1, H, W, D] in [0, 1].
        affine: [B, 3, 4] from `register_affine`; None is the identity.
        steps: of Adam on the full grid.
        velocity: where to start from; None for that of `coarse_velocity`, or for zero without `coarse_steps`.
        fixed_known, moving_known: see `register_affine`.
    """
    size = tuple(fixed.shape[2:])
    if affine is None:
        affine = torch.eye(3, 4, device=fixed.device).expand(fixed.shape[0], 3, 4)
    local = LocalNCCLoss(kernel_size)
    known = {"fixed_known": fixed_known, "moving_known": moving_known}
    if velocity is None and coarse_steps:
        velocity = coarse_velocity(fixed, moving, affine, coarse_steps, **known)
    if velocity is None:
        velocity = torch.zeros(fixed.shape[0], 3, *((n + 1) // 2 for n in size), device=fixed.device)
    velocity = velocity.detach().float().clone().requires_grad_()
    optimizer = torch.optim.Adam([velocity], lr=learning_rate)
    guided = fixed_probabilities is not None and moving_probabilities is not None
    source = torch.cat([moving, moving_probabilities], dim=1).float() if guided else moving.float()
    for _ in range(steps):
        ddf = total_ddf(affine, integrate(velocity, size), size)
        warped, known = warp_known(source, ddf, fixed_known, moving_known)
        loss = local.per_case(warped[:, :1], fixed, known) + smooth_weight * smoothness(velocity)
        if guided:
            scanned = 1.0 if known is None else known
            loss = loss + guide_weight * foreground_dice_loss(warped[:, 1:] * scanned, fixed_probabilities * scanned)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    return velocity.detach()


@torch.enable_grad()
def coarse_velocity(
    fixed: Tensor,
    moving: Tensor,
    affine: Tensor,
    steps: int = 20,
    smooth_weight: float = 2.0,
    fixed_known: Tensor | None = None,
    moving_known: Tensor | None = None,
) -> Tensor:
    """Return the velocity [B, 3, h, w, d] on half the grid from a search over displacements, and `steps` of Adam.

    Both go by MIND-SSC descriptors, which see shapes where a correlation sees intensities: a search, then gradients, as
    in H. Siebert, C. Grossbroehmer, L. Hansen, M. P. Heinrich, "ConvexAdam", IEEE TMI 2025.

    Args:
        fixed, moving: [B, 1, H, W, D] in [0, 1].
        affine, fixed_known, moving_known: see `register_velocity`.
    """
    size = tuple(fixed.shape[2:])
    half = tuple((n + 1) // 2 for n in size)
    aligned = warp(moving, total_ddf(affine, None, size))
    ddf = search_displacement(mind(fixed.float()), mind(aligned))
    velocity = F.interpolate(ddf, size=half, mode="trilinear", align_corners=True) / 2
    target, source = (F.avg_pool3d(mind(one.float()), 2, ceil_mode=True) for one in (fixed, moving))
    known = [_pooled(one, 2, ceil_mode=True) for one in (fixed_known, moving_known)]
    affine = affine * torch.tensor([1.0, 1.0, 1.0, 0.5], device=fixed.device)
    velocity.requires_grad_()
    optimizer = torch.optim.Adam([velocity], lr=0.1)
    for _ in range(steps):
        ddf = integrate(velocity, half, num_steps=4)
        warped, both = warp_known(source, total_ddf(affine, ddf, half), *known)
        apart = (warped - target).square().sum(1, keepdim=True)
        loss = apart.mean() if both is None else (apart * both).sum() / both.sum().clamp_min(1.0)
        loss = loss + smooth_weight * smoothness(velocity).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return velocity.detach()


def _pooled(known: Tensor | None, factor: int, ceil_mode: bool = False) -> Tensor | None:
    return None if known is None else (F.avg_pool3d(known.float(), factor, ceil_mode=ceil_mode) > 0.5).float()


def foreground_dice_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Return 1 - soft Dice, mean over the foreground classes, of each case [B]; inputs [B, K, H, W, D]."""
    pred, target = pred[:, 1:].flatten(2), target[:, 1:].float().flatten(2)
    overlap = 2 * (pred * target).sum(2) / (pred.sum(2) + target.sum(2)).clamp_min(1e-5)
    return 1 - overlap.mean(1)
