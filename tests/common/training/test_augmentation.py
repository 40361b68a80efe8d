from __future__ import annotations

import inspect

import pytest
import torch

from common.training.augmentation import Augmentation

STILL = {"prob": 0.0, "contrast": (1.0, 1.0), "brightness": 0.0, "noise_prob": 0.0}


def scan(size=(16, 16, 8)):
    image = torch.rand(1, *size, generator=torch.Generator().manual_seed(0))
    return {"image": image, "target": image.clone(), "weight": image.round(), "case": "a"}


def apply(item, seed=0, **options):
    change = Augmentation(["target", "weight", "answer"], (2, 2, 3), nearest=["weight"], **options)
    change.set_random_state(seed)
    return change(item)


def test_maps_are_moved_with_the_image_and_keep_their_values():
    options = STILL | {"prob": 1.0}
    found = apply(scan(), **options)
    assert torch.equal(found["image"], found["target"]) and not torch.equal(found["image"], scan()["image"])
    assert set(found["weight"].unique().tolist()) == {0.0, 1.0} and found["case"] == "a"


def test_intensities_change_in_the_image_alone():
    found = apply(scan(), **(STILL | {"noise_prob": 1.0, "noise": 0.2}))
    assert torch.equal(found["target"], scan()["target"])
    assert 0.0 < float((found["image"] - found["target"]).std()) <= 0.2


def test_a_crop_is_the_same_of_all():
    found = apply(scan(), **(STILL | {"roi_size": "8,8,4"}))
    assert found["image"].shape == found["weight"].shape == (1, 8, 8, 4)
    torch.testing.assert_close(found["image"].as_tensor(), found["target"].as_tensor())


def test_blur_is_as_wide_in_mm_along_every_axis():
    point = torch.zeros(1, 21, 21, 21)
    point[0, 10, 10, 10] = 1
    change = Augmentation(["target"], (1, 1, 2), **(STILL | {"blur": 2.0, "blur_prob": 1.0}))
    change.set_random_state(0)
    seen = change({"image": point})["image"][0]
    place = torch.arange(21.0) - 10
    spread = [float((seen.sum([a for a in range(3) if a != axis]) * place**2).sum()) ** 0.5 for axis in range(3)]
    assert 0.9 <= spread[0] <= 2.1 and 0.9 <= 2 * spread[2] <= 2.1
    assert float(seen.sum()) == pytest.approx(1, abs=0.02)


def test_the_same_changes_on_larger_voxels():
    first = Augmentation(["label"], (1.0, 1.0, 2.0), nearest=["label"], rotate=0.4, blur=1.0)
    other = first.on_voxels_of((2.0, 2.0, 2.0))
    assert [type(step) for step in other.transforms] == [type(step) for step in first.transforms]
    assert list(other.transforms[0].pixdim) == [2, 2, 2] and list(first.transforms[0].pixdim) == [1, 1, 2]
    assert other.transforms[0].rotate == first.transforms[0].rotate == 0.4
    named = set(inspect.signature(Augmentation.__init__).parameters) - {"self", "pixdim"}
    assert set(first._given) == named  # none is forgotten
