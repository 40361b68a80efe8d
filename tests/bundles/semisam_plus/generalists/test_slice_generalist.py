from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.bundle.path import import_bundle

slice_generalist = import_bundle("semisam_plus", "generalists.slice_generalist")
build = import_bundle("semisam_plus", "common.sam.build")
FAMILY = import_bundle("semisam_plus", "common.sam.members.family").FAMILY
preprocessing = import_bundle("semisam_plus", "common.sam.members.preprocessing")
InputError = import_bundle("semisam_plus", "common.errors").InputError
find_weights = import_bundle("semisam_plus", "common.sam.weights.known").find_weights
consultation = import_bundle("semisam_plus", "generalists.consultation")
combine, gate = consultation.combine, consultation.gate

GRID = (32, 16, 6)  # H, W, D


class GreyEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.images = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.images += len(image)
        return F.avg_pool2d(image[:, :1], 4).expand(-1, 8, -1, -1) * self.weight


class Prompts(nn.Module):
    mask_input_size = (32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def get_dense_pe(self) -> torch.Tensor:
        return torch.zeros(1, 8, 8, 8)

    def forward(self, points, boxes, masks):
        self.seen.append(SimpleNamespace(points=points, boxes=boxes, masks=masks))
        count = next(len(p) for p in (boxes, masks, points and points[0]) if p is not None)
        # no box: the whole slice answers
        boxes = torch.tensor([[0.0, 0, 40, 40]]).expand(count, 4) if boxes is None else boxes
        return F.pad(boxes, (0, 4))[:, None], torch.zeros(count, 8, 8, 8)


class BoxDecoder(nn.Module):
    """Says yes in the box of the prompt, where the embedding is bright."""

    def forward(self, embedding, position, sparse, dense, multimask_output):
        source = embedding.repeat_interleave(len(sparse), 0) + dense
        pixel = torch.arange(32) + 0.5
        x0, y0, x1, y1 = (sparse[:, 0, :4] + 0.5).unbind(1)
        inside = ((pixel > y0[:, None]) & (pixel < y1[:, None]))[:, :, None]
        inside = inside & ((pixel > x0[:, None]) & (pixel < x1[:, None]))[:, None, :]
        bright = F.interpolate(source[:, :1], (32, 32)) > 0.25
        return torch.where(inside[:, None] & bright, 9.0, -9.0), torch.zeros(len(sparse), 1)


def fake_sam(name: str = "mobile_sam") -> nn.Module:
    parts = {"image_encoder": GreyEncoder(), "prompt_encoder": Prompts(), "mask_decoder": BoxDecoder()}
    return build.SamModel(name, preprocessing.Preprocessing(32), 4, parts, FAMILY[name].prompts)


def asking(prompt: str = "box", sam: nn.Module | None = None, **options):
    settings = {"padding": 0.0, "min_size": 1.0, "min_voxels": 4, "amp": False, **options}
    return slice_generalist.SliceGeneralist(sam or fake_sam(), prompt, **settings)


def specialist(size=GRID) -> torch.Tensor:
    """Probabilities [3, H, W, D]: class 1 has two components in slices 1 to 4 but not 3, class 2 is in slice 2."""
    q = torch.zeros(3, *size)
    q[1, 2:8, 2:8, 1:5] = 0.95
    q[1, 14:18, 3:7, 1:5] = 0.95
    q[1, :, :, 3] = 0.2
    q[2, 10:20, 10:15, 2] = 0.9
    q[0] = 1 - q[1:].amax(0)
    return q / q.sum(0)


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_boxes_of_main_components_are_answered_where_they_are(axis) -> None:
    q = specialist().movedim(-1, axis)
    asked = asking(members=1, slice_axis=axis)
    answer = asked.answer(asked.embed(torch.ones(1, 1, *q.shape[1:])), q)
    assert answer.asked.tolist() == [True, True] and answer.members.shape == (1, 2, *q.shape[1:])
    found = (answer.members[0] > 0.5).movedim(axis, -1)
    wanted = specialist()[1:] > 0.5
    wanted[0, :, :, 3] = wanted[0, :, :, 2]  # the slice that lost the structure gets its neighbours' boxes
    assert found.equal(wanted)
    with_gap = asking(members=1, slice_axis=axis, max_gap=0)
    assert not (with_gap.answer(with_gap.embed(torch.ones(1, 1, *q.shape[1:])), q).members > 0.5).equal(
        answer.members > 0.5
    )


def test_of_many_speckles_only_the_largest_are_asked_about() -> None:
    q = torch.zeros(2, *GRID)
    q[1, ::4, ::4, 2] = 0.9  # 32 lone voxels
    q[1, 1:3, 0, 2] = 0.9  # and one of three
    q[0] = 1 - q[1]
    sam = fake_sam()
    asked = asking("box", sam, members=1, max_components=3)
    answer = asked.answer(asked.embed(torch.ones(1, 1, *GRID)), q)
    assert sum(len(seen.boxes) for seen in sam.prompt_encoder.seen) == 3
    assert answer.members[0, 0, 1, 0, 2] > 0.5


def test_members_differ_and_the_first_is_the_plain_box() -> None:
    asked, single = asking(members=4), asking(members=1)
    embedding = asked.embed(torch.ones(1, 1, *GRID))
    answer = asked.answer(embedding, specialist())
    assert answer.members.shape[0] == 4
    assert answer.members[0].equal(single.answer(embedding, specialist()).members[0])
    assert not answer.members[1].equal(answer.members[2])
    torch.testing.assert_close(answer.foreground, answer.members.mean(0))


def test_members_take_several_kinds_of_prompts_in_turn() -> None:
    sam = fake_sam()
    asked = asking("box, mask,box+point", sam, members=4)
    embedding = asked.embed(torch.ones(1, 1, *GRID))
    answer = asked.answer(embedding, specialist())
    assert asked.prompt == "box, mask, box+point" and answer.members.shape[0] == 4
    box, mask = (asking(kind, members=1).answer(embedding, specialist()).members[0] for kind in ("box", "mask"))
    assert answer.members[0].equal(box) and answer.members[1].equal(mask) and answer.members[2].equal(box)
    assert not answer.members[3].equal(box)  # the second of the boxes is jittered
    kinds = {(s.boxes is not None, s.points is not None, s.masks is not None) for s in sam.prompt_encoder.seen}
    assert kinds == {(True, False, False), (False, False, True), (True, True, False)}


def test_one_encoding_serves_all_classes_and_members() -> None:
    sam = fake_sam()
    asked = asking(sam=sam, members=3)
    embedding = asked.embed(torch.ones(1, 1, *GRID))
    asked.answer(embedding, specialist())
    assert sam.image_encoder.images == GRID[-1]


def test_answers_depend_on_nothing_that_was_asked_before() -> None:
    images = torch.rand(3, 1, *GRID, generator=torch.Generator().manual_seed(0))
    maps = [specialist(), specialist().flip(1), specialist().flip(3)]
    asked = asking(members=3, batch_size=2)
    first = [asked.answer(asked.embed(images[i : i + 1]), maps[i]).members for i in range(3)]
    other = asking(members=3, batch_size=7)
    for i in (2, 0, 1):
        torch.testing.assert_close(other.answer(other.embed(images[i : i + 1]), maps[i]).members, first[i])
    # a class is answered the same whatever else the specialist saw
    alone = specialist()
    alone[1] = 0
    both = asked.answer(asked.embed(images[:1]), specialist()).members[:, 1]
    torch.testing.assert_close(asked.answer(asked.embed(images[:1]), alone).members[:, 1], both)


@pytest.mark.parametrize("prompt", slice_generalist.PROMPTS)
def test_every_prompt_gets_what_it_is_named_for(prompt) -> None:
    sam = fake_sam()
    asked = asking(prompt, sam, members=2, points=2, negative_points=1)
    answer = asked.answer(asked.embed(torch.ones(1, 1, *GRID)), specialist())
    assert answer.members.shape[0] == (1 if prompt == "mask" else 2)
    for seen in sam.prompt_encoder.seen:
        assert (seen.boxes is not None) == ("box" in prompt)
        assert (seen.points is not None) == ("point" in prompt)
        assert (seen.masks is not None) == ("mask" in prompt)
        if seen.points is not None:
            assert set(seen.points[1].unique().tolist()) <= {-1.0, 0.0, 1.0} and seen.points[1].eq(1).any(1).all()
        if seen.masks is not None:  # logits, and each prompt holds one component of two
            assert seen.masks.min() < -6 and seen.masks.max() > 2
            assert (seen.masks > 0).flatten(1).float().mean(1).max() < 0.1


def test_an_empty_specialist_is_not_asked() -> None:
    q = torch.zeros(3, *GRID)
    q[0] = 1
    sam = fake_sam()
    asked = asking(sam=sam)
    answer = asked.answer(asked.embed(torch.ones(1, 1, *GRID)), q)
    assert answer.asked.tolist() == [False, False] and not answer.members.any()
    assert not sam.prompt_encoder.seen
    label, disagreement = combine([answer], q)
    assert label.equal(q) and not disagreement.any()
    assert gate(label, q) == 0
    few = q.clone()
    few[1, 0, 0, :3], few[0, 0, 0, :3] = 1, 0
    assert not asking().answer(asked.embed(torch.ones(1, 1, *GRID)), few).asked.any()


def test_lite_medsam_is_not_given_points(caplog) -> None:
    slice_generalist._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        made = [asking(kind, fake_sam("lite_medsam")) for kind in ("box+point", "box+point", "box", "box+mask")]
    assert [g.prompt for g in made] == ["box", "box", "box", "box+mask"]
    assert len(caplog.records) == 1 and "understands boxes only" in caplog.text
    assert asking("point", fake_sam("mobile_sam")).prompt == "point"
    assert asking("point, box, box+mask", fake_sam("lite_medsam")).prompt == "box, box+mask"
    # and it wants wider boxes than the others
    paddings = [asking(sam=fake_sam(name), padding=None).padding for name in ("lite_medsam", "mobile_sam")]
    assert paddings == [0.1, 0.0]


def test_medsam_learnt_from_boxes_alone_and_is_asked_by_boxes(caplog) -> None:
    slice_generalist._say_once.cache_clear()
    sam = fake_sam("medsam_vit_b")
    with caplog.at_level(logging.WARNING):
        asked = asking("point, mask, box+point", sam, members=1)
    assert (
        asked.prompt == "box" and "medsam_vit_b understands boxes only: prompt 'point, mask, box+point'" in caplog.text
    )
    asked.answer(asked.embed(torch.ones(1, 1, *GRID)), specialist())
    assert all(s.boxes is not None and s.points is None and s.masks is None for s in sam.prompt_encoder.seen)
    # what a run asks it by if nothing is said stays
    assert asking("box, box+mask", fake_sam("medsam_vit_b")).prompt == "box, box+mask"


def test_efficient_sam_is_not_given_masks(caplog) -> None:
    slice_generalist._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        asked = asking("box, box+mask, point, mask", fake_sam("efficient_sam_s"))
    assert asked.prompt == "box, point" and "efficient_sam_s understands boxes and points only" in caplog.text


def test_bad_settings_are_said() -> None:
    with pytest.raises(InputError, match="found 'boxes', wanted one of box, point"):
        asking("boxes")
    with pytest.raises(InputError, match="members: found 0"):
        asking(members=0)


def test_real_weights_give_no_gradient_and_do_not_change() -> None:
    try:
        path = find_weights("mobile_sam")
    except InputError as error:
        pytest.skip(str(error))
    asked = slice_generalist.SliceGeneralist("mobile_sam", members=2, checkpoint=path, image_size=128, min_voxels=4)
    before = {name: value.clone() for name, value in asked.slices.sam.state_dict().items()}
    row, column = torch.meshgrid(torch.arange(24.0), torch.arange(16.0), indexing="ij")
    disc = ((row - 11) ** 2 + (column - 7) ** 2 < 30).float()
    image = (0.2 + 0.6 * disc)[None, None, :, :, None].repeat(1, 1, 1, 1, 2)
    q = torch.stack([1 - disc, disc])[..., None].repeat(1, 1, 1, 2) * 0.8 + 0.1
    q.requires_grad_()
    answer = asked.answer(asked.embed(image), q)
    label, disagreement = combine([answer], q)
    assert not label.requires_grad and not disagreement.requires_grad
    assert not any(p.requires_grad or p.grad is not None for p in asked.slices.sam.parameters())
    assert all(value.equal(before[name]) for name, value in asked.slices.sam.state_dict().items())
    assert gate(label, q, min_agreement=0.7) == 1.0
    assert {"sam_name", "checkpoint_sha256", "image_size"} <= set(asked.identity)
