"""The deformation of one volume to another: a stationary velocity field, optimised for the two of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .discrete import search_displacement
from .fields import integrate, pooled, smoothness, total_ddf, warp, warp_known
from .mind import mind
from .similarity import LocalNCCLoss, foreground_dice_loss


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
        velocity: where to start from; None: from zero, or with `coarse_steps` from a search.
        coarse_steps: of `coarse_velocity`, before those on the full grid.
        fixed_known, moving_known: see `register_affine`.
    """
    size = tuple(fixed.shape[2:])
    if affine is None:
        affine = torch.eye(3, 4, device=fixed.device).expand(fixed.shape[0], 3, 4)
    local = LocalNCCLoss(kernel_size)
    known = {"fixed_known": fixed_known, "moving_known": moving_known}
    if coarse_steps:
        velocity = coarse_velocity(fixed, moving, affine, coarse_steps, velocity=velocity, **known)
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
    velocity: Tensor | None = None,
) -> Tensor:
    """Return the velocity [B, 3, h, w, d] on half the grid from a search over displacements, and `steps` of Adam.

    Both go by MIND-SSC descriptors, which see shapes where a correlation sees intensities: a search, then gradients, as
    in H. Siebert, C. Grossbroehmer, L. Hansen, M. P. Heinrich, "ConvexAdam", IEEE TMI 2025.

    Args:
        fixed, moving: [B, 1, H, W, D] in [0, 1].
        affine, fixed_known, moving_known: see `register_velocity`.
        velocity: where to start from, in the place of a search.
    """
    size = tuple(fixed.shape[2:])
    half = tuple((n + 1) // 2 for n in size)
    if velocity is None:
        aligned = warp(moving, total_ddf(affine, None, size))
        ddf = search_displacement(mind(fixed.float()), mind(aligned))
        velocity = F.interpolate(ddf, size=half, mode="trilinear", align_corners=True) / 2
    velocity = velocity.detach().float().clone()
    target, source = (F.avg_pool3d(mind(one.float()), 2, ceil_mode=True) for one in (fixed, moving))
    known = [pooled(one, 2, ceil_mode=True) for one in (fixed_known, moving_known)]
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
