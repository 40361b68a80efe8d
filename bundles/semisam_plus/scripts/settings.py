"""What each setting of SemiSAM+ can be."""

from __future__ import annotations

from .common.launch.kinds import (
    COUNT,
    EXISTING,
    IDS,
    MAYBE,
    NULL,
    SHARE,
    TEXT,
    TRUTH,
    WEIGHT,
    Kind,
    choice,
    listed,
    names,
    number,
    whole,
)  # fmt: skip
from .common.launch.settings import SHARED, check_settings, unet_fits
from .common.sam.members.family import FAMILY
from .generalists import slice_generalist, volume_generalist
from .generalists.generalist_loss import FORMS, WEIGHTS
from .generalists.learned_prompt import LEARNED
from .methods.registry import METHODS
from .methods.sampling import SAMPLINGS

_PROMPTS = dict.fromkeys((*slice_generalist.PROMPTS, LEARNED, *volume_generalist.PROMPTS))
_SIZE = whole(1, 4096) | NULL


def _each(kind: Kind) -> Kind:
    """Return the kind of one value for all generalists, or a list with one for each."""
    return kind | listed(kind, "a list with one for each generalist")


SETTINGS: dict[str, Kind] = {
    **SHARED,
    "plain_control": TRUTH,
    "unlabeled_dir": choice("auto") | EXISTING | NULL,
    "labeled": NULL | IDS,
    "federated": TRUTH,
    "num_labeled": MAYBE | NULL,
    "method": choice(*METHODS),
    "labels_from_registration": TRUTH | NULL,
    "self_training": TRUTH | NULL,
    "pseudo_label_weight": WEIGHT,
    "generalist": NULL | names(*FAMILY),
    "generalist_checkpoint": _each(EXISTING | NULL),
    "generalist_image_size": _each(_SIZE),
    "prompt": _each(NULL | names(*_PROMPTS)),
    "compared_prompts": NULL | names(*slice_generalist.PROMPTS) | listed(NULL, "an empty list", 0, 0),
    "answer_loss": choice(*FORMS),
    "members": whole(1, 100),
    "jitter": SHARE,
    "clicks": whole(1, 1000),
    "generalist_spacing": number(above=0, most=1000) | NULL,
    "generalist_from": COUNT,
    "answer_every": MAYBE,
    "answer_cases": COUNT | NULL,
    "answer_keep": SHARE,
    "generalist_weight": WEIGHT,
    "weighting": choice(*WEIGHTS),
    "hard_answer": TRUTH,
    "generalist_fade": SHARE,
    "tau": number(above=0),
    "specialist_share": SHARE,
    "min_agreement": SHARE,
    "trial_cases": MAYBE | NULL,
    "min_gain": number(-1, 1),
    "consistency_weight": WEIGHT,
    "consistency_ramp": SHARE,
    "published": NULL | TEXT,
    "contrast": NULL | choice(*SAMPLINGS),
    "contrast_weight": WEIGHT,
    "ema_alpha": SHARE,
    "noise": WEIGHT,
    "warm_up": SHARE,
    "labeled_batch": whole(1, 10_000),
    "unlabeled_batch": whole(0, 10_000),
    "smoothing": number(0, 100),
    "nearest": whole(1, 100),
    "shift": SHARE,
    "window": SHARE,
    "reach": whole(0, 100),
    "hand_on": WEIGHT,
    "sam_share": SHARE,
}


def check() -> None:
    """Refuse settings of the command line that are none; an item of `initialize`, before any other of our own.

    Raises:
        InputError: one line for each.
    """
    check_settings(SETTINGS, [unet_fits])
