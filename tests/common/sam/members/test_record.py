from __future__ import annotations

import pytest

from common.sam.members.record import ALL_PROMPTS, Prompts, SliceMember


@pytest.mark.parametrize("kind, all_kinds, boxes_alone, no_masks", [
    ("box", "box", "box", "box"),
    ("point", "point", "box", "point"),
    ("mask", "mask", "box", "box"),
    ("box+point", "box+point", "box", "box+point"),
    ("box+mask", "box+mask", "box+mask", "box"),
])  # fmt: skip
def test_what_is_not_understood_is_asked_by_boxes(kind, all_kinds, boxes_alone, no_masks) -> None:
    assert ALL_PROMPTS.understood(kind) == all_kinds
    assert Prompts(points=False).understood(kind) == boxes_alone
    assert Prompts(masks=False).understood(kind) == no_masks


def test_in_words() -> None:
    words = [str(ALL_PROMPTS), str(Prompts(points=False)), str(Prompts(masks=False))]
    assert words == ["boxes, points and masks", "boxes only", "boxes and points only"]


def test_a_record_that_leaves_something_out_is_refused() -> None:
    with pytest.raises(TypeError, match="'stride', 'any_size', 'prompts'"):
        SliceMember(weights=None, image_encoder=None, prompt_parts=None, preprocessing=None)
