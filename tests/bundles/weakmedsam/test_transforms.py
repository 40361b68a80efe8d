from __future__ import annotations

from types import SimpleNamespace

import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Lambdad
from monai.transforms.traits import RandomizableTrait

from support.bundle.path import import_bundle

module = import_bundle("weakmedsam", "transforms")


def test_items_get_what_their_stage_learns_from():
    features = SimpleNamespace(tuned=False, features=lambda case: torch.full((3, 2, 2, 2), float(case[-1])))
    item = module.AddFeaturesd(features)({"case": "case_1", "image": 0})
    assert item["features"].unique().tolist() == [1.0] and item["image"] == 0
    children = SimpleNamespace(child=lambda case: {"case_1": torch.eye(3)}[case])
    assert torch.equal(module.AddChildd(children)(item)["child"], torch.eye(3))


def test_a_tuned_backbone_sees_the_image_itself():
    features = SimpleNamespace(tuned=True)
    assert set(module.AddFeaturesd(features)({"case": "case_1", "image": 0})) == {"case", "image"}


def test_segmenter_is_given_image_and_pseudo_label_alone():
    known = {"target": torch.zeros(3, 4, 4, 4), "weight": torch.ones(1, 4, 4, 4)}
    labeller = SimpleNamespace(load=lambda case: known)
    doubled = Lambdad("image", lambda image: 2 * image)
    given = {"case": "case_1", "image": MetaTensor(torch.ones(1, 4, 4, 4)), "presence": torch.ones(2, 4, 4, 4)}
    item = module.TrainPreprocessing(labeller, Compose([doubled]))(given)
    assert set(item) == {"case", "image", "target", "weight"} and item["image"].unique().tolist() == [2.0]
    assert not any(isinstance(item[key], MetaTensor) for key in ("image", "target", "weight"))


def test_nothing_of_it_is_cached():
    assert all(issubclass(name, RandomizableTrait) for name in (module.AddFeaturesd, module.AddChildd))
