from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.transforms import Compose

from common.registration.fields import total_ddf, warp
from support.atlas.labeller import ATLAS, SIZE, Images, make
from support.bundle.path import import_bundle

module = import_bundle("rrl_medsam", "learning.transforms")
NO_TEACHER = SimpleNamespace(model=None)


@pytest.fixture(scope="module")
def images():
    return Images()


@pytest.fixture(scope="module")
def labeller(images, tmp_path_factory):
    labeller = make(images, tmp_path_factory.mktemp("labels"), instance_steps=3, coarse_steps=3)
    labeller.align()
    labeller.register()
    return labeller


def preprocessing(labeller, **settings):
    steps = module.TrainPreprocessing(labeller, NO_TEACHER, Compose([]), **settings)
    steps.set_random_state(0)
    return steps


def test_the_label_is_warped_exactly_as_the_atlas(labeller, images):
    """The phantom's image is .2 of background, .5 of body and .8 of core, but for noise."""
    copy = module.RandAlignedCopyd(labeller, 1.0, None)
    copy.set_random_state(0)
    for item in images:
        found = copy(item)
        image, label = found["image"], found["pseudo_label"]
        assert image.shape == (1, *SIZE) and label.shape == (3, *SIZE) and found["case"] == item["case"]
        expected = 0.2 * label[0] + 0.5 * label[1] + 0.8 * label[2]
        assert (image[0] - expected).abs().mean() < 0.03
        torch.testing.assert_close(label.sum(0), torch.ones(SIZE), rtol=0, atol=1e-4)


def test_a_copy_has_another_shape_every_time(labeller, images):
    copy = module.RandAlignedCopyd(labeller, 1.0)
    copy.set_random_state(0)
    one, other = (copy(images[0])["pseudo_label"] for _ in range(2))
    assert (one - other).abs().max() > 0.2
    size = tuple(labeller.atlas.label.shape[2:])
    affine_alone = warp(labeller.atlas.label, total_ddf(labeller.registered[0].affine("case_0"), None, size))[0]
    assert (one - affine_alone).abs().max() > 0.2


def test_a_copy_has_the_intensities_of_the_scan_that_it_stands_for(labeller, images):
    brighter = {"case": "case_0", "image": 0.5 * images[0]["image"] + 0.4}
    for restyle, atol in (("histogram", 0.02), ("amplitude", 0.1)):
        copy = module.RandAlignedCopyd(labeller, 1.0, restyle)
        copy.set_random_state(0)
        found = copy(brighter)["image"]
        torch.testing.assert_close(found.mean(), brighter["image"].mean(), rtol=0, atol=atol)
    with pytest.raises(ValueError, match="histogram, amplitude or null"):
        module.RandAlignedCopyd(labeller, 1.0, "fourier")


def test_the_share_of_copies_is_the_one_asked_for(labeller, images):
    steps = preprocessing(labeller, copies=0.3)
    pseudo_label = labeller.labels.load("case_0")["label"]
    copies = [not torch.equal(steps(images[0])["pseudo_label"], pseudo_label) for _ in range(100)]
    assert 15 <= sum(copies) <= 45


def test_without_a_share_the_steps_are_those_of_before(labeller, images):
    """A transform more would change the seeds of those behind it."""
    steps = preprocessing(labeller)
    names = ["AddTargetsd", "AddTeacherd", "Compose", "EnsureTyped"]
    assert [type(step).__name__ for step in steps.transforms] == names
    found = steps(images[0])
    assert torch.equal(found["image"], images[0]["image"])
    assert torch.equal(found["pseudo_label"], labeller.labels.load("case_0")["label"])


def test_both_kinds_meet_and_one_seed_gives_one_item(labeller, images):
    steps = preprocessing(labeller, copies=1.0, randomise=1.0)
    assert [type(step).__name__ for step in steps.transforms[1:3]] == ["RandAlignedCopyd", "RandomisedCopyd"]
    first = steps(images[0])
    assert first["image"].shape == (1, *SIZE) and first["pseudo_label"].shape == (3, *SIZE)
    steps.set_random_state(0)
    again = steps(images[0])
    torch.testing.assert_close(again["image"], first["image"])
    torch.testing.assert_close(again["pseudo_label"], first["pseudo_label"])
    assert not torch.allclose(steps(images[0])["image"], first["image"], atol=0.05)


def test_the_atlas_itself_is_warped_by_the_velocities_of_others(labeller, images):
    assert labeller.registered[0].velocity(ATLAS) is None
    copy = module.RandAlignedCopyd(labeller, 1.0, None)
    copy.set_random_state(1)
    assert (copy(images[2])["pseudo_label"] - labeller.atlas.label[0]).abs().max() > 0.2
