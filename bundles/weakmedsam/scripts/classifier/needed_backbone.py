"""Whether a run needs a SAM at all, so that nobody has to get weights that nothing uses."""

from __future__ import annotations

from ..cohort import WeakCohort
from ..common.errors import InputError
from ..common.launch.words import optional


def chosen_backbone(backbone: str | None, cohort: WeakCohort, prior: str, walk: str | None) -> str | None:
    """Return the name of the backbone where anything needs one, else None, so that nobody has to get its weights.

    An activation map needs it, and a walk along its masks. A prior `auto` is an activation map unless every label has a
    box.

    Raises:
        InputError: it is needed, and there is none.
    """
    boxed = all(place.box is not None for place in cohort.locations.values())
    reasons = ["the activation map of prior " + prior] if prior == "cam" or (prior == "auto" and not boxed) else []
    reasons += [f"walk {walk}"] if walk in ("points", "boxes") else []
    if not reasons:
        return None
    if optional(backbone) is None:
        raise InputError(
            f"backbone is null, but {' and '.join(reasons)} needs one; wanted a name such as mobile_sam, or a typical "
            "box of each label in the datalist's locations and a walk without prompts"
        )
    return backbone
