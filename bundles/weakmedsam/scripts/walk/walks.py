"""The walk that spreads a pseudo label along what looks alike: in the image, or to a SAM asked everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.grid.field_of_view import inside_scan
from ..common.imaging.affinity_walk import edge_weights, half_offsets, intensity_guide, walk
from ..common.launch.words import optional, optional_number
from ..common.tensors import grey, plain
from .pam import mask_guide

GUIDES = ("intensity", "points", "boxes", "blur", "none")


class Walk:
    """Walk from each voxel to those of its neighbours that the guide finds alike; then negative slices are emptied.

    Args:
        guide: `intensity` (the scan itself), `points` or `boxes` (masks of the backbone for a grid of prompts: prompt
            affinity mining), `blur` (everything is alike; the control), or `none`.
        slice_axis: 0, 1 or 2.
        pixdim: of the grid, mm.
        features: for `points` and `boxes`: `embedding(case)` and `backbone`.
        count: prompts along each side of a slice.
        steps, restart, beta, radius: see `imaging.affinity_walk`; beta belongs to one unit of the guide: the image's
            standard deviation, or the mean over the prompts' masks.
        between: 1 links neighbouring slices, 0 leaves them apart.
        sigma_mm: links between slices weaken with their distance by exp(-(d / sigma_mm)^2); None: they don't.
        legacy: the published walk: summed logits, mass-conserving, border, rescaled after each step.
        channel: of the scan, that `intensity` compares; None: the mean of all.

    Raises:
        InputError: an unknown guide, or one that the backbone can't give.
    """

    def __init__(
        self,
        guide: str | None,
        slice_axis: int,
        pixdim: Sequence[float],
        features: Any = None,
        count: int = 8,
        steps: int = 10,
        restart: float = 0.1,
        beta: float = 3.0,
        radius: int = 2,
        between: int = 1,
        sigma_mm: float | None = None,
        legacy: bool = False,
        channel: int | None = None,
    ) -> None:
        guide = optional(guide) or "none"
        if guide not in GUIDES:
            raise InputError(f"walk is {guide!r}; wanted one of {', '.join(GUIDES)}")
        self.guide, self.slice_axis, self.pixdim, self.features = guide, slice_axis, list(pixdim), features
        self.count, self.steps, self.beta, self.legacy = count, steps, beta, legacy
        self.channel = optional_number("sam_channel", channel, whole=True, least=0)
        self.restart = 0.0 if legacy else restart
        self.offsets = half_offsets(radius, slice_axis, 0 if legacy else between)
        along = [sigma_mm if axis == slice_axis else None for axis in range(3)]
        self.sigma_mm = None if sigma_mm is None else along

    def __call__(self, item: Mapping[str, Any], maps: Tensor, presence: Tensor, edges: Tensor | None = None) -> Tensor:
        """Return the walked maps [P, H, W, D] of a case, each within its own positive slices.

        Args:
            item: `case` and `image` [C, H, W, D].
            maps: [P, H, W, D] in [0, 1].
            presence: [P, H, W, D].
            edges: of `edges(item)`, where the same case is walked several times; None makes them.
        """
        edges = self.edges(item) if edges is None else edges
        if edges is None:
            return maps * presence
        walked = walk(
            maps, edges, self.offsets, self.steps, self.restart, averaging=not self.legacy, rescale=self.legacy
        )
        return walked * presence

    def edges(self, item: Mapping[str, Any]) -> Tensor | None:
        """Return the weights [n_offsets, H, W, D] of a case's edges, none beyond its scan; None where there is no
        walk."""
        if self.guide == "none" or not self.steps:
            return None
        beta = 0.0 if self.guide == "blur" else self.beta
        return edge_weights(
            self.make_guide(item), self.offsets, beta, pixdim=self.pixdim, sigma_mm=self.sigma_mm,
            legacy_border=self.legacy, allowed=inside_scan(item["image"]),
        )  # fmt: skip

    @property
    def settings(self) -> tuple[Any, ...]:
        """All that the result depends on beside the case; labels of other settings are made anew."""
        backbone = getattr(self.features, "name", None) if self.guide in ("points", "boxes") else None
        walked = (self.guide, self.count, self.steps, self.restart, self.beta, self.offsets)
        chosen = () if self.channel is None else (self.channel,)
        return (*walked, self.pixdim, self.sigma_mm, self.legacy, backbone, *chosen)

    @torch.no_grad()
    def make_guide(self, item: Mapping[str, Any]) -> Tensor:
        """Return what edges compare, [C, H, W, D]."""
        image = grey(plain(item["image"]), self.channel).float()
        if self.guide in ("intensity", "blur"):
            return intensity_guide(image)
        embedding = self.features.embedding(item["case"])
        backbone, size = self.features.backbone, image.shape[1:]
        return mask_guide(
            backbone, embedding, size, self.slice_axis, self.guide, self.count, summed=self.legacy, legacy=self.legacy
        )
