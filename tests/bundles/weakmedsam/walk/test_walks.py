from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from support.bundle.path import import_bundle
from support.weakmedsam.fake import FakeBackbone

walks = import_bundle("weakmedsam", "walk.walks")
InputError = import_bundle("weakmedsam", "common.errors").InputError

SIZE = (24, 20, 6)
PIXDIM = (1.0, 1.0, 3.0)


def disc(radius: float = 7.0) -> Tensor:
    h, w = torch.meshgrid(torch.arange(SIZE[0]) - 12.0, torch.arange(SIZE[1]) - 10.0, indexing="ij")
    return (h * h + w * w < radius * radius)[:, :, None].expand(SIZE)


@pytest.fixture
def item() -> dict:
    return {"case": "a", "image": 0.2 + 0.6 * disc().float()[None]}


def whole(labels: int = 1) -> Tensor:
    return torch.ones(labels, *SIZE)


def seed() -> Tensor:
    """A map [1, H, W, D] that has found a corner of the disc, and has run over its edge."""
    maps = torch.zeros(1, *SIZE)
    maps[0, 8:16, 4:10] = 1.0
    maps[0, 0:8, 4:10] = 0.6
    return maps


def make(guide, **settings):
    return walks.Walk(guide, 2, PIXDIM, **settings)


def test_intensity_keeps_a_map_to_what_looks_alike(item):
    far = torch.zeros(1, *SIZE)
    far[0, 12, 10, 3] = 1.0
    inside, outside = disc()[None], ~disc()[None]
    intensity = make("intensity", steps=20, restart=0.0)(item, far, whole())
    blurred = make("blur", steps=20, restart=0.0)(item, far, whole())
    assert intensity[inside].sum() > 30 * intensity[outside].sum()
    assert blurred[outside].sum() > 5 * intensity[outside].sum()
    maps = seed()
    walked = make("intensity", steps=10)(item, maps, whole())
    contrast = [float(m[inside].mean() - m[outside].mean()) for m in (maps, walked)]
    assert walked.shape == maps.shape and 0 <= walked.amin() and walked.amax() <= 1
    assert contrast[1] > contrast[0]


def test_blur_is_a_walk_whose_beta_is_nought(item):
    maps = seed()
    blurred = make("blur", beta=5.0)(item, maps, whole())
    assert blurred.equal(make("intensity", beta=0.0)(item, maps, whole()))
    assert not torch.allclose(blurred, make("intensity", beta=5.0)(item, maps, whole()))
    constant = torch.full((1, *SIZE), 0.3)
    assert torch.allclose(make("intensity")(item, constant, whole()), constant, atol=1e-5)


@pytest.mark.parametrize(("guide", "steps"), [(None, 10), ("none", 10), ("null", 10), ("None", 10), ("intensity", 0)])
def test_no_walk_leaves_the_map_as_it_is(item, guide, steps):
    maps, presence = seed(), whole()
    presence[..., :2] = 0
    assert make(guide, steps=steps)(item, maps, presence).equal(maps * presence)


@pytest.mark.parametrize("guide", ["intensity", "blur"])
def test_negative_slices_stay_background_label_by_label(item, guide):
    presence = torch.zeros(2, *SIZE)
    presence[0, ..., 1:3], presence[1, ..., 2:5] = 1, 1
    walked = make(guide)(item, seed().expand(2, -1, -1, -1) * presence, presence)
    assert walked[presence == 0].eq(0).all()
    assert (walked * presence).flatten(1).amax(1).gt(0.3).all()


def test_slices_are_linked_unless_told_otherwise(item):
    maps, presence = torch.zeros(1, *SIZE), whole()
    maps[0, 10:14, 8:12, 2] = 1.0
    assert make("intensity")(item, maps, presence)[..., 3].amax() > 0.05
    assert make("intensity", between=0)(item, maps, presence)[..., 3].eq(0).all()
    near, far = (make("intensity", sigma_mm=mm, steps=1)(item, maps, presence)[..., 3].sum() for mm in (30.0, 2.0))
    assert near > 2 * far > 0


def test_weaker_links_between_slices_leave_those_within_alone(item):
    alone = make("intensity", between=0, sigma_mm=1.0)(item, seed(), whole())
    assert alone.equal(make("intensity", between=0)(item, seed(), whole()))


def features() -> SimpleNamespace:
    asked = []
    embedding = torch.zeros(SIZE[2], 16, 4, 4)
    return SimpleNamespace(
        name="mobile_sam", backbone=FakeBackbone(), asked=asked, embedding=lambda c: (asked.append(c), embedding)[1]
    )


@pytest.mark.parametrize("guide", ["points", "boxes"])
def test_prompts_ask_the_backbone_about_the_case(item, guide):
    known = features()
    walk = make(guide, features=known, count=3)
    like = walk.make_guide(item)
    assert like.shape == (9, *SIZE) and 0 <= like.amin() and like.amax() <= 1
    assert known.asked == ["a"]
    # the first prompt's blob lies in the first third of rows and columns
    peak = like[0, :, :, 0].flatten().argmax()
    assert int(peak) // SIZE[1] < SIZE[0] / 3 and int(peak) % SIZE[1] < SIZE[1] / 3
    walked = walk(item, seed(), whole())
    assert walked.shape == (1, *SIZE) and not torch.allclose(walked, make("blur")(item, seed(), whole()), atol=1e-3)


def test_edges_serve_several_walks_of_a_case(item):
    known = features()
    walk = make("points", features=known, count=3)
    edges = walk.edges(item)
    for maps in (seed(), seed() / 2):
        assert torch.equal(
            walk(item, maps, whole(), edges), make("points", features=features(), count=3)(item, maps, whole())
        )
    assert known.asked == ["a"]  # the SAM once, for both
    assert make("none").edges(item) is None


def test_a_backbone_that_ignores_points_is_asked_for_boxes(item):
    known = features()
    known.backbone.takes_points = False
    with pytest.raises(InputError, match="wanted boxes"):
        make("points", features=known)(item, seed(), whole())


def test_the_published_walk(item):
    known = features()
    walk = make("points", features=known, count=3, legacy=True, beta=0.1, radius=5)
    assert len(walk.offsets) == 34 and all(offset[2] == 0 for offset in walk.offsets) and walk.restart == 0
    assert walk.make_guide(item).shape == (1, *SIZE)  # summed logits
    maps = seed()
    maps[..., 4:] = 0
    walked = walk(item, maps, whole())
    top = walked.amax((0, 1, 2))
    assert torch.allclose(top[:4], torch.ones(4)) and top[4:].eq(0).all()  # each slice reaches 1 again
    assert walked.amin() == 0


def test_labels_are_made_anew_where_the_walk_is_another_one():
    same = [make("intensity").settings, make("intensity", features=features()).settings]
    assert same[0] == same[1]
    others = [
        make("blur"),
        make("intensity", steps=3),
        make("intensity", beta=1.0),
        make("intensity", restart=0.5),
        make("intensity", radius=3),
        make("intensity", sigma_mm=2.0),
        make("points", features=features()),
        make("points", features=features(), count=4),
    ]
    assert len({repr(walk.settings) for walk in others} | {repr(same[0])}) == len(others) + 1


@pytest.mark.parametrize("guide", ["mask", 3, True])
def test_a_guide_that_there_is_not(guide):
    with pytest.raises(InputError, match="wanted one of intensity, points, boxes, blur, none"):
        make(guide)
