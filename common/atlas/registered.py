"""The registrations of one atlas to the cases of a data set, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..costs.pieces import count
from ..errors import printable
from ..processes import all_done, own_share
from ..pseudo_labels.work import CaseWork
from ..registration.fields import folding_percent
from .atlas import Atlas, trusted
from .finer import FinerAtlas, FinerScan

View = Callable[[Mapping[str, Any]], tuple[Tensor, Tensor]]  # case -> image [1, C, H, W, D], what of it was scanned


class Direct(NamedTuple):
    """What the atlases say of a case, by their own registrations.

    Attributes:
        label: [K, H, W, D].
        opinions: what the registrations on the common grid say, each by itself.
        similarity: of the image to the atlas that resembles it most.
        folding: per cent of the voxels, in the worst field.
    """

    label: Tensor
    opinions: list[Tensor]
    similarity: float
    folding: float


class RegisteredAtlas:
    """An atlas with its affine and its velocities to each case.

    Args:
        atlas: is registered.
        work: where what is found lies; a resumed one goes on with what is there.
        fuse_network: give the registration network's label beside the instance-optimised one.
        guided_steps: of a registration that an opinion on the case guides; 0 for none.
        finer: the atlas on finer voxels, where there are any.
    """

    def __init__(
        self,
        atlas: Atlas,
        work: CaseWork,
        fuse_network: bool = False,
        guided_steps: int = 0,
        finer: FinerAtlas | None = None,
    ) -> None:
        self.atlas, self.work, self.bank = atlas, work, work.bank("registration")
        self.fuse_network, self.guided_steps, self.finer = fuse_network, guided_steps, finer

    @property
    def device(self) -> torch.device:
        """Where it is registered."""
        return self.atlas.image.device

    @property
    def times(self) -> float:
        """Atlases that this one stands for in a dry run."""
        return count([self.atlas.case])

    def align(self, cases: Iterable[Mapping[str, Any]], view: View) -> None:
        """Find the affine to each case."""
        self.work.remove_stale()

        def align(item: Mapping[str, Any]) -> None:
            self.bank.save(item["case"], {"affine": self.atlas.find_affine(*view(item))[0]})

        title = f"affine of {printable(self.atlas.case)}"
        self.work.do_each(cases, self.bank, align, title, None, self.device, self.times)

    def register(self, cases: Iterable[Mapping[str, Any]], view: View) -> None:
        """Find the velocities to each case, from its affine on."""
        missing = [item for item in own_share(cases) if not self._is_registered(item["case"])]

        def register(item: Mapping[str, Any]) -> None:
            case, (fixed, inside) = item["case"], view(item)
            known = self.bank.load(case)
            affine = known["affine"][None].to(fixed.device)
            found = self.atlas.velocities(fixed, affine, inside)
            similarity = self.atlas.similarity(fixed, affine, trusted(found), inside).nanmean()
            self.bank.save(case, {**known, **found}, similarity=float(similarity))

        title = f"registration of {printable(self.atlas.case)}"
        all_done(missing, register, title, None, self.device, self.times)

    def go_on(self, case: str, scan: FinerScan) -> dict[str, Tensor]:
        """Return the fields to a registered case on finer voxels, see `FinerAtlas.go_on`."""
        return self.finer.go_on(scan, self.affine(case), self.velocity(case))

    def _is_registered(self, case: str) -> bool:
        return self.work.resume and "similarity" in self.bank.judgement(case)

    def similarity(self, case: str) -> float:
        """Return the mean local correlation that the registration to a case came to."""
        return self.bank.judgement(case)["similarity"]

    def similarity_map(self, case: str, fixed: Tensor, inside: Tensor) -> Tensor:
        """Return the squared local correlation of the registered atlas with a case, see `Atlas.similarity`."""
        velocity = trusted(self.bank.load(case)).to(fixed.device)
        return self.atlas.similarity(fixed, self.affine(case), velocity, inside)

    def affine(self, case: str) -> Tensor:
        """Return the affine [1, 3, 4] to a case; none was found to an atlas, whose is the identity."""
        if case not in self.bank:
            return torch.eye(3, 4, device=self.device)[None]
        return self.bank.load(case)["affine"][None].to(self.device)

    def velocity(self, case: str | None) -> Tensor | None:
        """Return the velocity [3, h, w, d] that labels of a case go by; None for an atlas, or for no case."""
        if case is None or case not in self.bank:
            return None
        return trusted(self.bank.load(case)).to(self.device)

    def aligned(self, case: str) -> tuple[Tensor, Tensor]:
        """Return image [C, H, W, D] and label [K, H, W, D] under the affine to a case."""
        return self.atlas.aligned(self.affine(case))

    def labels(self, case: str, fixed: Tensor, inside: Tensor, own: Tensor | None = None) -> tuple[list[Tensor], float]:
        """Return the labels [K, H, W, D] that the registrations give to a case, and the worst folding, per cent.

        Args:
            own: the network's opinion [K, H, W, D], which guides the registration where there are steps for that.
        """
        velocities = self.bank.load(case)
        affine = velocities.pop("affine")[None].to(fixed.device)
        if "instance" in velocities and not self.fuse_network:
            velocities.pop("network", None)
        if own is not None and self.guided_steps and "instance" in velocities:
            velocities["instance"] = self.atlas.guide(
                fixed, affine, velocities["instance"], own, self.guided_steps, inside
            )
        found = [self.atlas.propagate(affine, velocity, inside) for velocity in velocities.values()]
        return [label for label, _ in found], max(float(folding_percent(ddf)) for _, ddf in found)
