"""A labelled scan, and how it is registered to others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..registration.affine import refit_affine, register_affine
from ..registration.deformation import register_velocity
from ..registration.fields import integrate, total_ddf, warp, warp_known
from ..registration.similarity import LocalNCCLoss
from ..tensors import grey, known_share, unless_all


@dataclass
class Atlas:
    """A labelled scan on the common grid, with the settings by which it is registered.

    Images are [1, C, H, W, D], what of one was scanned (`inside`) is [1, 1, H, W, D] of 0 and 1, affines are [1, 3, 4],
    velocities [3, h, w, d] on half the grid, labels [K, H, W, D].

    Args:
        case: its id.
        image: [1, C, H, W, D] in [0, 1].
        label: one-hot [1, K, H, W, D]; all classes are 0 where the grid goes on beyond the scan.
        channel: of the images, that classical registration goes by; None: the mean of all.
        registration: network (moving, fixed) -> velocity [1, 3, h, w, d], or None.
        steps: of instance optimisation on the full grid; 0 for no instance optimisation beside a network.
        coarse_steps: its steps on half the grid before those, after a search; 0 for neither, nor for an affine that
            follows a search.
        smooth_weight: of the velocity's smoothness.
    """

    case: str
    image: Tensor
    label: Tensor
    channel: int | None = None
    registration: nn.Module | None = None
    steps: int = 30
    coarse_steps: int = 20
    smooth_weight: float = 0.5

    def __post_init__(self) -> None:
        self.known = unless_all(known_share(self.label))

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels of the grid."""
        return tuple(self.label.shape[2:])

    def grey(self, image: Tensor) -> Tensor:
        """Return the image [1, 1, H, W, D] that classical registration sees of one."""
        return grey(image, self.channel)

    def find_affine(self, fixed: Tensor, inside: Tensor) -> Tensor:
        """Return the affine of the atlas to an image."""
        fixed, moving, known = self.grey(fixed), self.grey(self.image), unless_all(inside)
        affine = register_affine(fixed, moving, fixed_known=known, moving_known=self.known)
        return refit_affine(fixed, moving, affine, fixed_known=known) if self.coarse_steps else affine

    def aligned(self, affine: Tensor, velocity: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return image [C, H, W, D] and label under an affine, and a velocity if there is one, by one interpolation."""
        ddf = None if velocity is None else integrate(velocity[None].to(affine.device), self.size)
        both = warp(torch.cat([self.image, self.label], dim=1), total_ddf(affine, ddf, self.size))[0]
        channels = self.image.shape[1]
        return both[:channels], both[channels:]

    def velocities(self, fixed: Tensor, affine: Tensor, inside: Tensor) -> dict[str, Tensor]:
        """Return the velocity of each registration to an image: of the `network`, where there is one, of `instance`
        optimisation."""
        found = {}
        if self.registration is not None:
            with torch.no_grad():
                self.registration.eval()
                aligned = warp(self.image, total_ddf(affine, None, self.size))
                found["network"] = self.registration(aligned, fixed)[0]
        if self.steps or not found:
            found["instance"] = register_velocity(
                self.grey(fixed),
                self.grey(self.image),
                affine,
                steps=self.steps,
                coarse_steps=self.coarse_steps,
                smooth_weight=self.smooth_weight,
                fixed_known=unless_all(inside),
                moving_known=self.known,
            )[0]
        return found

    def similarity(self, fixed: Tensor, affine: Tensor, velocity: Tensor, inside: Tensor) -> Tensor:
        """Return the squared local correlation of the registered atlas with an image, [1, H, W, D] in [0, 1], and NaN
        where either was not scanned."""
        ddf = total_ddf(affine, integrate(velocity[None].to(affine.device), self.size), self.size)
        warped, known = warp_known(self.grey(self.image), ddf, unless_all(inside), self.known)
        found = LocalNCCLoss().correlation(warped, self.grey(fixed), known)
        return found if known is None else found.where(known[:, 0] > 0, torch.nan)

    def propagate(self, affine: Tensor, velocity: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Return the label under an affine and a velocity, and the ddf [1, 3, H, W, D], voxels.

        All classes are 0 where the case was not scanned, or where the atlas was not.
        """
        ddf = integrate(velocity[None].to(affine.device), self.size)
        return (warp(self.label, total_ddf(affine, ddf, self.size)) * inside)[0], ddf

    def guide(
        self, fixed: Tensor, affine: Tensor, velocity: Tensor, prediction: Tensor, steps: int, inside: Tensor
    ) -> Tensor:
        """Return a velocity that goes on from `velocity` with a prediction [K, H, W, D] as a guide."""
        return register_velocity(
            self.grey(fixed), self.grey(self.image), affine, steps, smooth_weight=self.smooth_weight,
            velocity=velocity[None], fixed_probabilities=prediction[None], moving_probabilities=self.label,
            coarse_steps=0, fixed_known=unless_all(inside), moving_known=self.known,
        )[0]  # fmt: skip


def trusted(velocities: Mapping[str, Tensor]) -> Tensor:
    """Return the instance-optimised velocity where there is one, else the network's."""
    return velocities["instance"] if "instance" in velocities else velocities["network"]
