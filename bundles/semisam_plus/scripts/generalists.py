"""The generalists and their one interface, in one place for configs: specialist's probabilities in, masks out."""

from __future__ import annotations

from .consultation import Answer, Generalist, combine, gate
from .slice_generalist import SliceGeneralist
from .volume_generalist import VolumeGeneralist

__all__ = [
    "Answer",
    "Generalist",
    "SliceGeneralist",
    "VolumeGeneralist",
    "combine",
    "gate",
]
