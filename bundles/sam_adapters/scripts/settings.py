"""What each setting of the SAM adapters can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .cohort import AUTO
from .common.data.presence import AXES
from .common.launch.kinds import (
    COUNT,
    EXISTING,
    IDS,
    MAYBE,
    NULL,
    RATE,
    SHARE,
    TEXT,
    TRUTH,
    WEIGHT,
    Kind,
    choice,
    whole,
)
from .common.launch.settings import SHARED, check_settings, unet_fits
from .common.sam.adapters.registry import ADAPTERS
from .common.sam.members.family import slice_members
from .slice_model.adapted_sam import DECODERS, parts_problems
from .slice_model.depth import MIXERS
from .slice_model.prompts import GENERATORS, WAYS

SETTINGS: dict[str, Kind] = {
    **SHARED,
    "plain_control": TRUTH,
    "unlabeled_dir": choice("auto") | EXISTING | NULL,
    "labeled": NULL | IDS,
    "num_labeled": MAYBE | NULL,
    "slices": choice(*AXES, AUTO),
    "slice_pixels": COUNT,
    "sam": choice(*slice_members()) | NULL,
    "sam_checkpoint": EXISTING | NULL,
    "sam_image_size": whole(1, 4096) | NULL,
    "published": NULL | TEXT,
    "decoder": choice(*DECODERS),
    "prompts": NULL | choice(*GENERATORS),
    "self_prompt": choice(*WAYS),
    "depth": NULL | choice(*MIXERS),
    "side_branch": TRUTH,
    "decoders": whole(1, 2),
    "cross_prompting": TRUTH,
    "cross_weight": WEIGHT,
    "prompt_consistency": WEIGHT,
    "cross_from": SHARE,
    "cross_batch": whole(1, 10_000),
    "encoder_adapter": NULL | choice(*ADAPTERS),
    "adapter_rank": whole(1, 1024),
    "views": whole(0, 1000),
    "adapt_epochs": COUNT,
    "adapt_length": COUNT,
    "adapt_batch": whole(2, 10_000),
    "adapt_rate": RATE,
    "weight_decay": WEIGHT,
    "dice_weight": SHARE,
    "pseudo_weight": WEIGHT,
    "labeled_batch": whole(1, 10_000),
    "unlabeled_batch": whole(0, 10_000),
}


def check() -> None:
    """Refuse settings of the command line that are none; an item of `initialize`, before any other of our own.

    Raises:
        InputError: one line for each.
    """
    check_settings(SETTINGS, [unet_fits, _parts_fit])


def _parts_fit(values: Mapping[str, Any]) -> Iterator[str]:
    if {"decoder", "prompts", "depth", "decoders"} <= values.keys():
        yield from parts_problems(*(values[name] for name in ("decoder", "prompts", "depth", "decoders")))
    if values.get("cross_prompting") is True and values.get("decoders") == 1:
        yield "decoders is 1; wanted 2 where cross_prompting is true"
