"""What is deployed: any of MONAI's segmentation networks, with the grid that it was trained for."""

from __future__ import annotations

from .common.grid.network import BodyNetwork


class Segmenter(BodyNetwork):
    """Segment a volume with `body`; holds no SAM."""
