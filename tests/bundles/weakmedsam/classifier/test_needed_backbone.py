from __future__ import annotations

import pytest

from support.bundle.path import import_bundle
from support.weakmedsam.fake import cohort

InputError = import_bundle("weakmedsam", "common.errors").InputError

module = import_bundle("weakmedsam", "classifier.needed_backbone")


@pytest.mark.parametrize(
    ("boxed", "prior", "walk", "needed"),
    [
        (True, "auto", "intensity", False),
        (True, "auto", "points", True),
        (True, "cam", None, True),
        (False, "auto", "intensity", True),
        (False, "centre", "blur", False),
        (False, "box", "boxes", True),
    ],
)
def test_weights_are_wanted_only_where_something_uses_them(boxed, prior, walk, needed):
    known = cohort()
    if not boxed:
        known.locations[4] = type(known.locations[4])(None, 1.0)
    assert module.chosen_backbone("mobile_sam", known, prior, walk) == ("mobile_sam" if needed else None)
    if needed:
        with pytest.raises(InputError, match="backbone is null, but"):
            module.chosen_backbone("null", known, prior, walk)
