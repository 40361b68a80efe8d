"""What is deployed: any of MONAI's segmentation networks, with the grid that it was trained for."""

from __future__ import annotations

from .common.grid.network import BodyNetwork


class Specialist(BodyNetwork):
    """Segment a volume with `body`; holds no generalist and no teacher.

    Channels of `body` beyond the K classes are a method's own (DTC's level sets).
    """
