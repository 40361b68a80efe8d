"""What each setting of RRL-MedSAM can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .common.launch.kinds import (
    COUNT,
    EXISTING,
    IDS,
    MAYBE,
    NULL,
    PART,
    SHARE,
    TRUTH,
    WEIGHT,
    Kind,
    choice,
    listed,
    number,
    whole,
)  # fmt: skip
from .common.launch.settings import SHARED, check_settings, unet_fits
from .common.sam.members.family import slice_members

SETTINGS: dict[str, Kind] = {
    **SHARED,
    "unlabeled_dir": choice("auto") | EXISTING | NULL,
    "atlas": IDS | NULL,
    "force": TRUTH,
    "sam": choice(*slice_members()) | NULL,
    "sam_checkpoint": EXISTING | NULL,
    "sam_image_size": whole(1, 4096) | NULL,
    "sam_slices": COUNT | NULL,
    "channels": listed(whole(2, 4096), "two or more whole numbers from 2 to 4096, such as 16,32,64,128", 2, 10),
    "strides": listed(whole(1, 2), "1 or 2 a step, such as 2,2,2", 1, 10) | NULL,
    "blocks": choice("residual", "two_conv"),
    "prompt": TRUTH,
    "output": choice("mean", "medical", "general"),
    "distill_epochs": COUNT,
    "register_epochs": COUNT,
    "rounds": COUNT,
    "smooth_weight": WEIGHT,
    "instance_steps": MAYBE,
    "fuse_network": TRUTH,
    "coarse_steps": MAYBE,
    "finer_steps": MAYBE,
    "bridges": MAYBE,
    "bridge_steps": MAYBE,
    "confirmation": SHARE,
    "guided_steps": MAYBE,
    "keep": PART,
    "atlas_share": number(0, below=1),
    "keep_least": MAYBE,
    "min_agreement": SHARE,
    "refine_labels": WEIGHT,
    "online_labels": TRUTH,
    "copies": SHARE,
    "restyle": choice("histogram", "amplitude") | NULL,
    "randomise": SHARE,
    "refine_intensity": WEIGHT,
    "distillation_weight": WEIGHT,
    "prompt_dropout": SHARE,
    "ema_alpha": SHARE,
    "ema_every": MAYBE,
    "tta_views": whole(0, 100),
}


def check() -> None:
    """Refuse settings of the command line that are none; an item of `initialize`, before any other of our own.

    Raises:
        InputError: one line for each.
    """
    check_settings(SETTINGS, [unet_fits, _fits])


def _fits(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("copies", 0) > 0:  # what a copy shows is neither what was registered nor what SAM has seen
        if values.get("online_labels"):
            yield f"copies is {values['copies']}; wanted 0 with online_labels, which takes no stored label"
        if values.get("distillation_weight", 0) > 0:
            yield f"copies is {values['copies']}; wanted 0 with a distillation_weight above 0"
