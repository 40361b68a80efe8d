from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.imaging.registration import register_velocity
from support.bundle.path import import_bundle

module = import_bundle("rrl_medsam", "evaluation")
SIZE = (16, 16, 16)


class Labeller:
    """Stands for an AtlasLabeller: the atlas's square, moved by a fixed velocity; it notes what it was asked for."""

    device = torch.device("cpu")

    def __init__(self, guided_steps: int = 0, instance: bool = True) -> None:
        self.guided_steps, self.instance, self.asked = guided_steps, instance, []
        label = torch.zeros(1, 2, *SIZE)
        label[:, 1, 4:12, 4:12, 4:12] = 1
        label[:, 0] = 1 - label[:, 1]
        self.atlas = {"case": "atlas", "image": label[:, 1:] * 0.8 + 0.1, "label": label}

    def velocities(self, fixed, affine):
        found = {"network": torch.zeros(3, 8, 8, 8)}
        if self.instance:
            found["instance"] = register_velocity(fixed, self.atlas["image"], affine, steps=1, coarse_steps=1)[0]
        return found

    def guide(self, fixed, affine, velocity, prediction, steps):
        assert prediction.shape == (2, *SIZE) and velocity.shape[0] == 3
        self.asked.append(("guide", steps))
        return velocity

    def propagate(self, affine, velocity):
        self.asked.append(("propagate", tuple(velocity.shape)))
        return self.atlas["label"][0], torch.zeros(1, 3, *SIZE)


@pytest.mark.parametrize(("guided_steps", "instance"), [(0, True), (7, True), (0, False)])
def test_propagated_label_is_added_and_steered_where_asked(guided_steps, instance):
    labeller = Labeller(guided_steps, instance)
    item = {"image": labeller.atlas["image"][0], "pred": labeller.atlas["label"][0]}
    found = module.AddPropagatedd(labeller)(item)
    assert torch.equal(found["propagated"], labeller.atlas["label"][0]) and found["folding_percent"] == 0
    assert [asked for asked in labeller.asked if asked[0] == "guide"] == ([("guide", 7)] if guided_steps else [])
    assert found["pred"] is item["pred"]


def cube(low: int, affine: np.ndarray) -> MetaTensor:
    volume = torch.zeros(1, *SIZE)
    volume[:, low : low + 8, 4:12, 4:12] = 2
    return MetaTensor(volume, affine=torch.as_tensor(affine))


def test_columns_are_the_dice_of_the_propagated_label_and_its_folding():
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    item = {"label": cube(4, affine), "propagated": cube(6, affine), "folding_percent": 1.5}
    found = module.PropagationColumns([0, 2, 3])(item)
    assert found["folding_percent"] == 1.5
    assert found["propagated_dice"][2] == pytest.approx(0.75) and np.isnan(found["propagated_dice"][3])
    assert 0 not in found["propagated_dice"]
    assert module.PropagationColumns([0, 2])({"label": item["label"]}) == {}
