"""What each setting of ADA-SAM can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .common.data.presence import AXES
from .common.imaging.cam import POOLINGS
from .common.launch.kinds import (
    COUNT,
    EXISTING,
    NULL,
    PART,
    RATE,
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
from .labeller import CONFIDENCE
from .slice_model.ada_sam import DENSE_PROMPTS, HEADS, PATCH_MAP
from .slice_model.feedback import OBJECTIVES
from .slice_model.map_range import CAM_RANGES
from .volume.structure_walk import FIRST_PROMPTS

_SLICES, _OTHERS = whole(1, 10_000), whole(0, 10_000)  # of a batch

SETTINGS: dict[str, Kind] = {
    **SHARED,
    "plain_control": TRUTH,
    "annotation_axis": choice(*AXES),
    "slice_axis": whole(0, 2),
    "num_label_slices": choice("auto") | COUNT | NULL,
    "draw_from_middle": PART,
    "sam": choice(*slice_members()) | NULL,
    "sam_checkpoint": EXISTING | NULL,
    "sam_image_size": whole(1, 4096) | NULL,
    "lora_rank": whole(0, 1024),
    "context": whole(0, 1000),
    "views": whole(0, 1000),
    "head": choice(*HEADS),
    "hidden": whole(0, 4096),
    "pooling": choice(*POOLINGS),
    "cam_range": choice(*CAM_RANGES),
    "mask_prompt": TRUTH,
    "dense_prompt": choice(*DENSE_PROMPTS),
    "feedback": choice(*OBJECTIVES) | TRUTH,
    "presence_threshold": SHARE,
    "locate_weight": WEIGHT,
    "negative_weight": WEIGHT,
    "consistency_weight": WEIGHT,
    "prompt_weight": WEIGHT,
    "classify_epochs": COUNT,
    "classify_length": COUNT,
    "classify_others": _OTHERS,
    "classify_rate": RATE,
    "adapt_epochs": COUNT,
    "adapt_length": COUNT,
    "labeled_batch": _SLICES,
    "unlabeled_batch": _OTHERS,
    "adapt_rate": RATE,
    "unet_share": choice("auto") | SHARE,
    "unet_epochs": COUNT,
    "unet_length": COUNT,
    "unet_batch": _SLICES,
    "unet_rate": RATE,
    "first_prompt": choice(*FIRST_PROMPTS),
    "passes": whole(1, 100),
    "propagate": TRUTH,
    "slice_pixels": COUNT,
    "largest_component": NULL | TRUTH | listed(number(whole=True), "a list of label values"),
    "mask_weight": WEIGHT,
    "pseudo_weight": choice(CONFIDENCE) | WEIGHT,
}


def check() -> None:
    """Refuse settings of the command line that are none; an item of `initialize`, before any other of our own.

    Raises:
        InputError: one line for each.
    """
    check_settings(SETTINGS, [unet_fits, _head_fits, _prompt_fits])


def _head_fits(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("head") == "mlp" and values.get("hidden") == 0:
        yield "hidden is 0; wanted 1 or more where head is mlp"


def _prompt_fits(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("dense_prompt") == PATCH_MAP and values.get("mask_prompt") is False:
        yield f"mask_prompt is False; wanted true where dense_prompt is {PATCH_MAP}"
