from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.sam.prompted_slices import PromptedSlices
from support.bundle.path import import_bundle

module = import_bundle("semisam_plus", "generalists.learned_prompt")
slice_generalist = import_bundle("semisam_plus", "generalists.slice_generalist")
build = import_bundle("semisam_plus", "common.sam.build")
FAMILY = import_bundle("semisam_plus", "common.sam.members.family").FAMILY
preprocessing = import_bundle("semisam_plus", "common.sam.members.preprocessing")
InputError = import_bundle("semisam_plus", "common.errors").InputError


class Encoder(nn.Module):
    """The slice's brightness and 1, each in four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image):
        small = F.avg_pool2d(image[:, :1], 4)
        return torch.cat([small, torch.ones_like(small)], 1).repeat_interleave(4, 1) * self.weight


class Prompts(nn.Module):
    mask_input_size = (32, 32)

    def get_dense_pe(self):
        return torch.zeros(1, 8, 8, 8)

    def forward(self, points, boxes, masks):
        return torch.zeros(len(masks), 0, 8), torch.zeros(len(masks), 8, 8, 8)


class Decoder(nn.Module):
    """Says what the first token picks out of the embedding; without one, nothing."""

    def forward(self, embedding, position, sparse, dense, multimask_output):
        said = -torch.ones(len(dense), 8, 8)
        if sparse.shape[1]:
            said = torch.einsum("pchw,pc->phw", dense, sparse[:, 0])
        return F.interpolate(said[:, None], (32, 32)), None


def sam(name="mobile_sam"):
    parts = {"image_encoder": Encoder(), "prompt_encoder": Prompts(), "mask_decoder": Decoder()}
    return build.SamModel(name, preprocessing.Preprocessing(32), 4, parts, FAMILY[name].prompts)


def volume():
    """An image [1, 1, 32, 32, 4] with a bright half, the label of which class 1 is bright and class 2 dark."""
    image = torch.full((1, 1, 32, 32, 4), 0.1)
    image[:, :, :16] = 0.9
    label = torch.zeros(3, 32, 32, 4)
    label[1, :16], label[2, 16:] = 1, 1
    return image, label


def lesson(slices):
    image, label = volume()
    prompt = torch.full_like(label, 0.2)
    prompt[1:, 8:24] = 0.6
    return module.Lesson(slices.encode(image), prompt, label)


def test_a_frozen_sam_learns_what_each_class_is_called():
    asked = slice_generalist.SliceGeneralist(sam(), "learned", members=3, amp=False, min_voxels=1)
    assert asked.members == 1 and asked.learns and not asked.ready
    taught = lesson(asked.slices)
    with pytest.raises(InputError, match="nothing was learnt yet"):
        asked.answer(taught.embedding, taught.prompt)
    before = {name: value.clone() for name, value in asked.slices.sam.state_dict().items()}
    asked.learn([taught])
    answer = asked.answer(taught.embedding, taught.prompt)
    assert asked.ready and ((answer.members[0] > 0.5) == (taught.label[1:] > 0.5)).float().mean() > 0.95
    assert all(torch.equal(value, before[name]) for name, value in asked.slices.sam.state_dict().items())


def test_the_same_lessons_teach_the_same_and_draw_nothing_of_others():
    slices = PromptedSlices(sam(), amp=False)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, two = (module.learn_prompt(slices, [lesson(slices)], seed=3, steps=4) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    other = module.learn_prompt(slices, [lesson(slices)], seed=4, steps=4)
    assert not torch.equal(other.told[0][0].weight, one.told[0][0].weight)


def test_nothing_to_learn_from_is_said():
    slices = PromptedSlices(sam(), amp=False)
    taught = lesson(slices)
    nothing = torch.zeros_like(taught.label)
    nothing[0] = 1
    with pytest.raises(InputError, match="no labelled volume shows a class"):
        module.learn_prompt(slices, [module.Lesson(taught.embedding, nothing, nothing)])


def test_members_without_masks_are_asked_by_boxes():
    asked = slice_generalist.SliceGeneralist(sam("lite_medsam"), "learned", amp=False)
    assert asked.prompt == "box" and not asked.learns and asked.ready


def test_the_trial_teaches_from_volumes_that_it_does_not_try():
    trial_module = import_bundle("semisam_plus", "generalists.trial")
    image, label = volume()
    names = [f"case_{n}" for n in range(3)]
    items = [{"case": name, "image": image[0], "label": label} for name in names]
    asked = slice_generalist.SliceGeneralist(sam(), "learned", amp=False, min_voxels=1)
    shown = []
    asked.learn = lambda lessons: shown.extend(lessons)
    asked.learned = lambda embedding, classes: torch.zeros(len(classes), 2, 8)
    embedded = []

    def embed(image):
        embedded.append(len(embedded))
        return {0: asked.embed(image[None])}

    panel = SimpleNamespace(
        names=["mobile_sam"], learning=[0], generalists=[asked], embed=embed, device=torch.device("cpu"), teaching=[0]
    )
    cohort = SimpleNamespace(labeled=[{"case": name} for name in names])
    trial = trial_module.GeneralistTrial(cohort, items, panel, cases=2, min_gain=-1.0)
    trial.run()
    assert len(shown) == len(trial_module.LEVELS) and {row["case"] for row in trial.rows} == {"case_0", "case_1"}
