from __future__ import annotations

from types import SimpleNamespace

import torch
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


def test_nothing_of_it_is_cached():
    assert all(issubclass(name, RandomizableTrait) for name in (module.AddFeaturesd, module.AddChildd))
