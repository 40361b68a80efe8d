"""Other answers beside a prediction: brought to the scan's own voxels and scored there, in the order they are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.grid.native import ToNativeGridd
from common.scoring.compared import AddComparedd, Compared

SIZE, SPACING = (8, 8, 6), (2.0, 2.0, 3.0)
VALUES = [0, 1, 4]
OTHER = Compared("other", "another network", "other_dice", hd95="other_hd95")
MASKS = Compared("masks", "masks", "masks dice")


class Given(AddComparedd):
    """Say what the test says."""

    def __init__(self, said: dict) -> None:
        super().__init__(VALUES)
        self.said = said

    def opinions(self, data):
        return self.said


def structures() -> torch.Tensor:
    """Return the true masks [2, H, W, D]: two blocks of 4 x 4 x 2 and 4 x 4 x 4 voxels."""
    found = torch.zeros(2, *SIZE)
    found[0, :4, :4, :2] = 1
    found[1, 4:, 4:, :4] = 1
    return found


def probabilities(masks: torch.Tensor) -> torch.Tensor:
    return torch.cat([1 - masks.amax(0, keepdim=True), masks])


def item(label: bool = True, step: int = 1) -> dict:
    """Return a case whose network saw every `step`-th voxel along the first axis, and whose label is as stored."""
    stored = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    grid = stored.clone()
    grid[0, 0] *= step
    meta = {"original_affine": stored.numpy(), "spatial_shape": np.array(SIZE)}
    values = (structures() * torch.tensor(VALUES[1:]).view(2, 1, 1, 1)).sum(0, keepdim=True).int()
    pred = probabilities(structures())[:, ::step]
    found = {"image": MetaTensor(pred[1:2].clone(), affine=grid, meta=meta), "pred": pred}
    return {**found, "label": MetaTensor(values, affine=stored)} if label else found


def test_columns_are_dice_and_distance_of_each_answer_and_numbers_as_they_are_given():
    half = structures()
    half[:, :, :, 1:] = 0  # the first slice alone
    transform = Given({"before": 1.5, OTHER: probabilities(half), "by label": {1: 0.25, 4: 0.5}})
    columns = transform.columns(transform(item()))
    assert list(columns) == ["before", "other_dice", "other_hd95", "by label"]
    assert columns["before"] == 1.5 and columns["by label"] == {1: 0.25, 4: 0.5}
    assert columns["other_dice"] == {1: pytest.approx(2 * 1 / 3), 4: pytest.approx(2 * 1 / 5)}  # slices: 1 of 2, of 4
    assert columns["other_hd95"][4] == pytest.approx(9.0)  # three slices of 3 mm


def test_label_map_stands_on_the_voxels_of_the_scan_and_the_prediction_is_left_alone():
    given, answer = item(step=2), probabilities(structures())[:, ::2]
    found = Given({OTHER: answer})(given)
    wanted = ToNativeGridd("pred", VALUES)(given)["pred"]
    assert found["other"].shape == (1, *SIZE) and torch.equal(found["other"], wanted)
    assert set(found["other"].unique().tolist()) == set(VALUES)
    assert found["pred"] is given["pred"] and found["label"] is given["label"]


def test_masks_that_overlap_are_judged_each_by_itself():
    everywhere = torch.ones(2, *SIZE)
    transform = Given({MASKS: torch.stack([structures()[0], everywhere[1]])})
    found = transform(item())
    share = 64 / everywhere[1].numel()
    assert transform.columns(found)["masks dice"] == {1: 1.0, 4: pytest.approx(2 * share / (share + 1))}
    assert "masks" not in found
    half = Given({MASKS: torch.full((2, *SIZE), 0.5)})  # counts as background
    assert half.columns(half(item()))["masks dice"] == {1: 0.0, 4: 0.0}


def test_case_without_a_label_has_label_maps_and_no_scores():
    found = Given({OTHER: probabilities(structures())})(item(label=False))
    assert found["other"].shape == (1, *SIZE)
    assert AddComparedd.columns(Given({}), found) == {"other_dice": {}, "other_hd95": {}}


def test_wrong_number_of_classes_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        Given({MASKS: torch.zeros(1, *SIZE)})(item())
