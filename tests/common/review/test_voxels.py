"""Voxels that stand for a scan: where they are drawn, and what the network says there."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from common.grid.native import ToNativeGridd
from common.review import voxels as drawing
from common.review.voxels import draw_voxels

SIZE = (40, 40, 20)  # of the scan, 1 mm; the network's grid has 2 mm and ends 8 mm before it


def scan_and_answer():
    affine, native = torch.diag(torch.tensor([2.0, 2, 2, 1])).double(), torch.eye(4).double()
    meta = {"original_affine": native, "spatial_shape": list(SIZE)}
    image = MetaTensor(torch.zeros(1, 16, 20, 10), affine=affine, meta=meta)
    pred = torch.softmax(3 * torch.randn(3, 16, 20, 10, generator=torch.Generator().manual_seed(0)), 0)
    label = torch.zeros(SIZE, dtype=torch.uint8)
    label[10:16, 10:16, 5:11] = 5
    label[16:20, 10:16, 5:11] = 9
    return image, pred, label


def test_probabilities_are_those_that_are_saved_and_truth_is_the_labels():
    image, pred, label = scan_and_answer()
    saved = ToNativeGridd("pred", [0, 5, 9], save_probabilities=True)({"image": image, "pred": pred})
    found = draw_voxels(pred, image, label, saved["pred"][0].as_tensor(), [0, 5, 9])
    known = saved["probabilities"].as_tensor().flatten(1).T
    classes = torch.tensor([0, 0, 0, 0, 0, 1, 0, 0, 0, 2])[label.long()].flatten()
    for number in range(
        0, len(found.truth), 97
    ):  # the voxel itself is not kept: one with this answer and truth is there
        same = (known - found.logs[number].exp()).abs().amax(1) < 1e-4
        assert found.truth[number] in classes[same]


def test_they_lie_around_each_label_and_elsewhere_and_together_stand_for_the_scan(monkeypatch):
    monkeypatch.setattr(drawing, "DRAWN", 150)
    image, pred, label = scan_and_answer()
    found = draw_voxels(pred, image, label, torch.zeros(SIZE, dtype=torch.uint8), [0, 5, 9, 11])
    assert found.around.bincount(minlength=4).tolist() == [150, 150, 150, 0]  # nothing is there of 11
    assert found.truth[found.around == 0].max() == 0  # elsewhere there is no label
    around = torch.zeros(SIZE, dtype=torch.int)
    around[8:18, 8:18, 3:13] += 1
    around[14:22, 8:18, 3:13] += 1
    assert float(found.weight.sum()) == pytest.approx(label.numel(), rel=0.05)
    assert float(found.weight[found.around == 0].sum()) == pytest.approx(int((around == 0).sum()))
    weight = found.weight[found.truth == 2].sum()
    assert float(weight) == pytest.approx(int((label == 9).sum()), rel=0.3)
    again = draw_voxels(pred, image, label, torch.zeros(SIZE, dtype=torch.uint8), [0, 5, 9, 11])
    assert torch.equal(again.logs, found.logs)


def test_beyond_the_networks_grid_all_is_background():
    image, pred, _ = scan_and_answer()
    label = torch.zeros(SIZE, dtype=torch.uint8)
    label[36:40] = 5
    found = draw_voxels(pred, image, label, torch.zeros_like(label), [0, 5, 9])
    assert torch.all(found.logs[found.truth == 1, 0] == 0)
