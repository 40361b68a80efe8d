from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.atlas.propagation import Propagated
from common.pseudo_labels.refine import RefineIntensityd
from support.bundle.path import import_bundle

module = import_bundle("rrl_medsam", "evaluation")
SIZE = (16, 16, 16)
AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])


class Labeller:
    """Stands for an AtlasLabeller: the atlas's square, wherever it is asked for; it notes what guides it."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        label = torch.zeros(1, 2, *SIZE)
        label[:, 1, 4:12, 4:12, 4:12] = 1
        label[:, 0] = 1 - label[:, 1]
        self.atlas = SimpleNamespace(case="atlas", image=label[:, 1:] * 0.8 + 0.1, label=label)
        self.guided = []

    def grey(self, image):
        return image

    def propagate(self, image, prediction):
        assert image.shape == (1, *SIZE)
        self.guided.append(prediction)
        return Propagated(self.atlas.label[0], image, 0.0)


@pytest.fixture(autouse=True)
def _of_the_labeller(monkeypatch):
    monkeypatch.setattr(module, "propagate", lambda labeller, image, prediction: labeller.propagate(image, prediction))


def test_propagated_label_is_added_and_the_prediction_may_guide_it():
    labeller = Labeller()
    given = item(labeller)
    found = module.AddPropagatedd(labeller, [0, 2])(given)
    assert torch.equal(found["propagation"], 2 * labeller.atlas.label[0, 1:])
    assert torch.equal(labeller.guided[0], given["pred"])
    assert found["pred"] is given["pred"]


def item(labeller: Labeller) -> dict:
    """Return the atlas as a case; its true label lies two voxels further."""
    meta = {"original_affine": AFFINE, "spatial_shape": np.array(SIZE)}
    truth = torch.zeros(1, *SIZE)
    truth[:, 6:14, 4:12, 4:12] = 2
    return {
        "image": MetaTensor(labeller.atlas.image[0], affine=torch.as_tensor(AFFINE), meta=meta),
        "label": MetaTensor(truth, affine=torch.as_tensor(AFFINE)),
        "pred": labeller.atlas.label[0],
    }


def test_columns_are_the_dice_of_the_propagated_label_and_its_folding():
    labeller = Labeller()
    transform = module.AddPropagatedd(labeller, [0, 2])
    columns = transform.columns(transform(item(labeller)))
    assert columns == {"propagated_dice": {2: pytest.approx(0.75)}, "folding_percent": 0.0}


def test_propagated_label_is_refined_as_the_prediction_is():
    labeller = Labeller()
    soft = (0.2 * labeller.atlas.label + 0.4)[0].roll(1, dims=1)  # a voxel beside the bright structure
    labeller.propagate = lambda image, prediction: Propagated(soft, image, 0.0)
    given = item(labeller)
    wanted = RefineIntensityd("pred", weight=2.0)({"image": given["image"], "pred": soft})["pred"].argmax(0)
    found = module.AddPropagatedd(labeller, [0, 2], refine_intensity=2.0)(given)["propagation"][0]
    assert torch.equal(found, 2 * wanted) and not torch.equal(wanted, soft.argmax(0))
