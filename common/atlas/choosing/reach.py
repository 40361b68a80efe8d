"""How well one scan reaches another by registration, told by their images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...grid.field_of_view import inside_scan
from ...registration.affine import register_affine
from ...registration.deformation import register_velocity
from ...registration.fields import integrate, pooled, smoothness, total_ddf, warp_known
from ...registration.similarity import LocalNCCLoss, global_ncc
from ...tensors import grey, plain, unless_all

SMALLEST = 1e-3  # determinant of an affine that has collapsed


class Reached(NamedTuple):
    """What a registration came to.

    Attributes:
        correlation: of the intensities under the affine, [-1, 1].
        local: mean squared local correlation under affine and deformation, [0, 1]; None: nothing was deformed.
        growth: |log| of how many times as large the moving scan's contents are as those of the other one.
        bending: mean squared difference of the velocity between neighbours, voxels; None: nothing was deformed.
    """

    correlation: float
    local: float | None
    growth: float
    bending: float | None


class ScanReach:
    """Register scans to one another on the common grid; each pair and form is done once.

    Args:
        images: sequence of {"case", "image" [C, H, W, D] in [0, 1]}.
        channel: of the images, that is compared; None: the mean of all.
        steps: of the deformation, on half the grid, by gradients alone: after a search any two scans are alike,
            and what it reaches tells them less apart.
    """

    def __init__(
        self,
        images: Sequence[Mapping[str, Any]],
        channel: int | None = None,
        steps: int = 80,
        device: str | torch.device = "cpu",
    ) -> None:
        self.images, self.channel, self.steps, self.device = images, channel, steps, torch.device(device)
        self.index = {item["case"]: number for number, item in enumerate(images)}
        self._affines: dict[tuple[str, str], Tensor] = {}
        self._found: dict[tuple[str, str, bool], Reached] = {}

    def scan(self, case: str) -> tuple[Tensor, Tensor | None]:
        """Return a scan as it is compared, [1, 1, H, W, D], and what of the grid it fills; None: all."""
        image = self.images[self.index[case]]["image"]
        inside = unless_all(inside_scan(image)[None].float().to(self.device))
        return grey(plain(image).float()[None].to(self.device), self.channel), inside

    def reach(self, moving: str, fixed: str, deform: bool) -> Reached:
        """Return how well one scan, by its case id, reaches another: by an affine, and by a deformation if asked."""
        key = (moving, fixed, deform)
        if key not in self._found:
            self._found[key] = self._register(moving, fixed, deform)
        return self._found[key]

    def align(self, moving: str, fixed: str) -> tuple[Tensor, Tensor | None]:
        """Return a scan brought to another one by an affine, [1, 1, H, W, D], and what both have scanned; None: all."""
        image, filled = self.scan(moving)
        target, inside = self.scan(fixed)
        if moving == fixed:
            return image, filled
        affine = self._affine(moving, fixed, target, image, inside, filled)
        return warp_known(image, total_ddf(affine, None, tuple(target.shape[2:])), inside, filled)

    def _affine(
        self, moving: str, fixed: str, target: Tensor, image: Tensor, inside: Tensor | None, filled: Tensor | None
    ) -> Tensor:
        if (moving, fixed) not in self._affines:
            self._affines[moving, fixed] = register_affine(target, image, fixed_known=inside, moving_known=filled)
        return self._affines[moving, fixed]

    def _register(self, moving: str, fixed: str, deform: bool) -> Reached:
        image, filled = self.scan(moving)
        target, inside = self.scan(fixed)
        known = {"fixed_known": inside, "moving_known": filled}
        affine = self._affine(moving, fixed, target, image, inside, filled)
        size = tuple(target.shape[2:])
        warped, seen = warp_known(image, total_ddf(affine, None, size), inside, filled)
        growth = abs(float(torch.linalg.det(affine[0, :, :3]).clamp_min(SMALLEST).log()))
        correlation = float(global_ncc(warped, target, seen))
        if not deform:
            return Reached(correlation, None, growth, None)
        velocity = self._deform(target, image, affine, **known)
        ddf = total_ddf(affine, integrate(velocity, size), size)
        warped, seen = warp_known(image, ddf, inside, filled)
        local = -float(LocalNCCLoss()(warped, target, seen))
        return Reached(correlation, local, growth, float(smoothness(velocity)))

    def _deform(
        self, fixed: Tensor, moving: Tensor, affine: Tensor, fixed_known: Tensor | None, moving_known: Tensor | None
    ) -> Tensor:
        """Return the velocity [1, 3, h, w, d] on half the grid, found on a quarter of it."""
        velocity = register_velocity(
            F.avg_pool3d(fixed, 2),
            F.avg_pool3d(moving, 2),
            affine * affine.new_tensor([1.0, 1.0, 1.0, 0.5]),
            self.steps,
            coarse_steps=0,
            fixed_known=pooled(fixed_known, 2),
            moving_known=pooled(moving_known, 2),
        )
        half = [(n + 1) // 2 for n in fixed.shape[2:]]
        return 2 * F.interpolate(velocity, size=half, mode="trilinear", align_corners=True)
