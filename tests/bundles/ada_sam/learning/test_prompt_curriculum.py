from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle
from support.process.rank import act_as

module = import_bundle("ada_sam", "learning.prompt_curriculum")
PromptCurriculum = module.PromptCurriculum
SIZE = (20, 30)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def truth(count):
    masks = torch.zeros(count, *SIZE, dtype=torch.bool)
    masks[:, 5:15, 10:20] = True
    return masks


OWN = torch.tensor([1.0, 2.0, 9.0, 8.0])
TRUE = torch.tensor([5.0, 10.0, 15.0, 20.0])


def test_kinds_come_in_their_shares_and_each_with_its_box():
    boxes, kinds = PromptCurriculum((0.4, 0.35, 0.25), jitter=0.1).labelled(truth(600), OWN.repeat(600, 1), seeded())
    found = torch.bincount(kinds, minlength=3) / 600
    torch.testing.assert_close(found, torch.tensor([0.4, 0.35, 0.25]), atol=0.06, rtol=0)
    true = boxes[kinds == 0]
    assert float((true - TRUE).abs().max()) <= 1.0 and float((true - TRUE).abs().mean()) > 0.3
    assert len(true.unique(dim=0)) > 100
    assert bool((boxes[kinds == 1] == OWN).all())
    assert bool((boxes[kinds == 2] == torch.tensor([0.0, 0.0, 20.0, 30.0])).all())


@pytest.mark.parametrize(("shares", "wanted"), [((1, 0, 0), TRUE), ((0, 1, 0), OWN)])
def test_one_kind_alone_without_jitter(shares, wanted):
    own = OWN.repeat(3, 1)
    boxes, _ = PromptCurriculum(shares, jitter=0).labelled(truth(3), own, seeded())
    assert bool((boxes == wanted).all())
    assert bool((own == OWN).all())  # what was given is not written to


def test_nothing_to_draw_for():
    boxes, kinds = PromptCurriculum().labelled(truth(0), OWN.repeat(0, 1), seeded())
    assert boxes.shape == (0, 4) and kinds.shape == (0,)
    assert module.neutral_boxes(0, SIZE, seeded()).shape == (0, 4)


def test_moved_boxes_stay_on_the_slice():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 30.0]]).repeat(50, 1)
    moved = PromptCurriculum(jitter=0.3).moved(boxes, SIZE, seeded())
    assert bool((moved >= 0).all()) and bool((moved[:, 2:] <= torch.tensor([20.0, 30.0])).all())
    assert not bool((moved == boxes).all())


def test_neutral_boxes_lie_anywhere_inside():
    boxes = module.neutral_boxes(500, SIZE, seeded())
    limit = torch.tensor([20.0, 30.0])
    sides = (boxes[:, 2:] - boxes[:, :2]) / limit
    assert bool((boxes[:, :2] >= 0).all()) and bool((boxes[:, 2:] <= limit).all())
    assert 0.2 <= float(sides.min()) < 0.25 and 0.95 < float(sides.max()) <= 1.0001
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / limit
    assert bool((centre.amin(0) < 0.2).all()) and bool((centre.amax(0) > 0.8).all())


def test_share_of_mask_prompts():
    assert 0.2 < float(PromptCurriculum(mask_share=0.3).with_mask(500, seeded()).float().mean()) < 0.4
    assert not bool(PromptCurriculum(mask_share=0).with_mask(9, seeded()).any())


def test_a_step_has_its_own_draws_whatever_came_before():
    def draws(seed, step):
        return PromptCurriculum().labelled(truth(5), OWN.repeat(5, 1), module.step_generator(seed, step))[0]

    first = draws(0, 7)
    torch.rand(3)
    assert torch.equal(draws(0, 7), first)
    assert not torch.equal(draws(0, 8), first) and not torch.equal(draws(1, 7), first)


def test_processes_draw_apart(monkeypatch):
    first = torch.rand(3, generator=module.step_generator(0, 0))
    act_as(monkeypatch, 1, 2)
    assert not torch.equal(torch.rand(3, generator=module.step_generator(0, 0)), first)


def test_settings_out_of_range_are_said_together():
    with pytest.raises(ValueError) as error:
        PromptCurriculum((0.5, 0.4), jitter=0.5, mask_share=2)
    assert len(str(error.value).splitlines()) == 3
    with pytest.raises(ValueError, match="sum 1"):
        PromptCurriculum((0.5, 0.4, 0.3))
