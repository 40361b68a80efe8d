from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.grid.field_of_view import inside_scan
from common.imaging.registration import register_affine, register_velocity
from common.pseudo_labels.refine import RefineIntensityd
from support.bundle.path import import_bundle

module = import_bundle("rrl_medsam", "evaluation")
SIZE = (16, 16, 16)
AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])


class Labeller:
    """Stands for an AtlasLabeller: the atlas's square, moved by a fixed velocity; it notes what it was asked for."""

    device = torch.device("cpu")

    def __init__(self, guided_steps: int = 0, instance: bool = True) -> None:
        self.guided_steps, self.instance, self.asked = guided_steps, instance, []
        label = torch.zeros(1, 2, *SIZE)
        label[:, 1, 4:12, 4:12, 4:12] = 1
        label[:, 0] = 1 - label[:, 1]
        self.atlas = {"case": "atlas", "image": label[:, 1:] * 0.8 + 0.1, "label": label}

    def grey(self, image):
        return image

    def inside(self, image):
        return inside_scan(image)[None].float()

    def find_affine(self, fixed, inside):
        return register_affine(fixed, self.atlas["image"])

    def velocities(self, fixed, affine, inside):
        found = {"network": torch.zeros(3, 8, 8, 8)}
        if self.instance:
            found["instance"] = register_velocity(fixed, self.atlas["image"], affine, steps=1, coarse_steps=1)[0]
        return found

    def guide(self, fixed, affine, velocity, prediction, steps, inside):
        assert prediction.shape == (2, *SIZE) and velocity.shape[0] == 3
        self.asked.append(("guide", steps))
        return velocity

    def propagate(self, affine, velocity, inside):
        self.asked.append(("propagate", tuple(velocity.shape)))
        return self.atlas["label"][0], torch.zeros(1, 3, *SIZE)


@pytest.mark.parametrize(("guided_steps", "instance"), [(0, True), (7, True), (0, False)])
def test_propagated_label_is_added_and_steered_where_asked(guided_steps, instance):
    labeller = Labeller(guided_steps, instance)
    given = item(labeller)
    found = module.AddPropagatedd(labeller, [0, 2])(given)
    assert torch.equal(found["propagation"], 2 * labeller.atlas["label"][0, 1:])
    assert [asked for asked in labeller.asked if asked[0] == "guide"] == ([("guide", 7)] if guided_steps else [])
    assert found["pred"] is given["pred"]


def item(labeller: Labeller) -> dict:
    """Return the atlas as a case; its true label lies two voxels further."""
    meta = {"original_affine": AFFINE, "spatial_shape": np.array(SIZE)}
    truth = torch.zeros(1, *SIZE)
    truth[:, 6:14, 4:12, 4:12] = 2
    return {
        "image": MetaTensor(labeller.atlas["image"][0], affine=torch.as_tensor(AFFINE), meta=meta),
        "label": MetaTensor(truth, affine=torch.as_tensor(AFFINE)),
        "pred": labeller.atlas["label"][0],
    }


def test_columns_are_the_dice_of_the_propagated_label_and_its_folding():
    labeller = Labeller()
    transform = module.AddPropagatedd(labeller, [0, 2])
    columns = transform.columns(transform(item(labeller)))
    assert columns == {"propagated_dice": {2: pytest.approx(0.75)}, "folding_percent": 0.0}


def test_propagated_label_is_refined_as_the_prediction_is():
    labeller = Labeller()
    soft = (0.2 * labeller.atlas["label"] + 0.4)[0].roll(1, dims=1)  # a voxel beside the bright structure
    labeller.propagate = lambda affine, velocity, inside: (soft, torch.zeros(1, 3, *SIZE))
    given = item(labeller)
    wanted = RefineIntensityd("pred", weight=2.0)({"image": given["image"], "pred": soft})["pred"].argmax(0)
    found = module.AddPropagatedd(labeller, [0, 2], refine_intensity=2.0)(given)["propagation"][0]
    assert torch.equal(found, 2 * wanted) and not torch.equal(wanted, soft.argmax(0))
