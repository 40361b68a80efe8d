"""What each setting of WeakMedSAM can be."""

from __future__ import annotations

from .classifier.classifier import KINDS
from .common.data.presence import AXES
from .common.imaging.cam import POOLINGS, SCOPES
from .common.launch.kinds import (
    COUNT,
    EXISTING,
    MAYBE,
    NULL,
    RATE,
    TRUTH,
    WEIGHT,
    Kind,
    choice,
    number,
    whole,
)  # fmt: skip
from .common.launch.settings import SHARED, check_settings, unet_fits
from .common.sam.members.family import slice_members
from .labeller import PRIORS
from .prior.organs import SHARINGS
from .walk.walks import GUIDES

SETTINGS: dict[str, Kind] = {
    **SHARED,
    "annotation_axis": choice(*AXES),
    "backbone": choice(*slice_members()) | NULL,
    "backbone_checkpoint": EXISTING | NULL,
    "feature_kind": choice(*KINDS),
    "tune": TRUTH,
    "backbone_image_size": whole(1, 4096) | NULL,
    "context": whole(0, 1000),
    "subclasses": whole(1, 1000),
    "child_weight": WEIGHT,
    "hidden": whole(0, 4096),
    "pooling": choice(*POOLINGS),
    "classify_epochs": COUNT,
    "prior": choice(*PRIORS),
    "map_scope": choice(*SCOPES),
    "sharing": choice(*SHARINGS),
    "learn_location": TRUTH,
    "rounds": MAYBE | NULL,
    "appearance_epochs": COUNT,
    "appearance_batch": whole(1, 10_000),
    "appearance_rate": RATE,
    "walk": choice(*GUIDES) | NULL,
    "walk_steps": MAYBE,
    "walk_beta": WEIGHT,
    "walk_between": whole(0, 1),
    "walk_passes": whole(1, 1000) | NULL,
    "prompt_grid": whole(1, 256),
    "threshold": choice("auto", "size", "otsu") | number(above=0, below=1),
    "ignore_band": number(least=0, below=0.5),
}


def check() -> None:
    """Refuse settings of the command line that are none; an item of `initialize`, before any other of our own.

    Raises:
        InputError: one line for each.
    """
    check_settings(SETTINGS, [unet_fits])
