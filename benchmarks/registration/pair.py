"""An atlas and a scan on the common grid, and what our own registration makes of them."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from common.atlas.atlas import Atlas
from common.grid.field_of_view import inside_scan
from common.tensors import plain


class Pair:
    """One registration: an atlas, which is the moving image, and a scan, which is the fixed one.

    Args:
        atlas: without a registration network.
        item: of a test data set: case, image [C, H, W, D] with its scan's geometry, label.
    """

    def __init__(self, atlas: Atlas, item: Mapping[str, Any]) -> None:
        self.atlas, self.item = atlas, item
        self.fixed = plain(item["image"]).float()[None]
        self.inside = inside_scan(item["image"])[None].float()

    @cached_property
    def affine(self) -> tuple[Tensor, float]:
        """Our affine [1, 3, 4], and its CPU seconds."""
        start = cpu_seconds()
        found = self.atlas.find_affine(self.fixed, self.inside)
        return found, cpu_seconds() - start

    def aligned(self) -> tuple[Tensor, float]:
        """Return the label [K, H, W, D] under our affine alone, and the CPU seconds."""
        affine, spent = self.affine
        start = cpu_seconds()
        return self.atlas.aligned(affine)[1], spent + cpu_seconds() - start

    def propagated(self) -> tuple[Tensor, float]:
        """Return the label [K, H, W, D] under our affine and instance optimisation, and the CPU seconds."""
        affine, spent = self.affine
        start = cpu_seconds()
        velocity = self.atlas.velocities(self.fixed, affine, self.inside)["instance"]
        return self.atlas.propagate(affine, velocity, self.inside)[0], spent + cpu_seconds() - start


def cpu_seconds() -> float:
    """Return the CPU time of this process, of all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
