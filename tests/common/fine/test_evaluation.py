"""The deployed network's answer of a scored case, and its control's beside it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from common.fine.evaluation import SegmentScand
from common.grid.network import BodyNetwork
from common.scoring.compared import COLUMNS, PLAIN

SIZE = (8, 8, 6)


class Above(nn.Module):
    """Class 1 where the image is above a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, image):
        return torch.cat([self.threshold - image, image - self.threshold], dim=1) * 100


def make(control) -> SegmentScand:
    network = BodyNetwork(Above(0.5), SIZE, (1, 1, 1), (0, 3))
    return SegmentScand(network, lambda image, net: net(image).log_softmax(1), None, control=control)


def case(label: bool = True) -> dict:
    """Return a scan whose first two slices are 1 and next two 0.4; the label is the first two; the window holds it."""
    image, truth = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE)
    image[..., :2], image[..., 2:4], truth[..., :2] = 1, 0.4, 3
    affine = torch.eye(4, dtype=torch.float64)
    meta = {"original_affine": affine.numpy(), "spatial_shape": torch.tensor(SIZE).numpy()}
    found = {"image": MetaTensor(image, affine=affine, meta=meta), "pred": torch.cat([1 - truth / 3, truth / 3])}
    found |= {COLUMNS: {"another": 1.0}}
    return {**found, "label": MetaTensor(truth, affine=affine)} if label else found


def test_the_control_is_scored_on_the_scan_and_the_prediction_is_left_alone():
    given = case()
    found = make(SimpleNamespace(deployed=BodyNetwork(Above(0.2), SIZE, (1, 1, 1), (0, 3))))(given)
    # the control takes four slices for two: Dice 2 * 2 / (2 + 4)
    assert found[COLUMNS] == {"another": 1.0, PLAIN.column: {3: pytest.approx(2 / 3)}}
    assert found["pred"] is given["pred"] and found["image"] is given["image"]


@pytest.mark.parametrize("control", [None, SimpleNamespace(deployed=None)])
def test_without_a_trained_control_there_is_no_column(control):
    assert make(control)(case())[COLUMNS] == {"another": 1.0}


def test_without_a_label_nothing_is_scored():
    control = SimpleNamespace(deployed=BodyNetwork(Above(0.2), SIZE, (1, 1, 1), (0, 3)))
    assert make(control)(case(label=False))[COLUMNS] == {"another": 1.0}
