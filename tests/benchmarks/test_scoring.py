from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from benchmarks.scoring import native_scores


def test_scores_are_means_over_the_labels_in_mm():
    # voxels of 1 x 1 x 3 mm; label 5 is met exactly, label 2 lies one layer too far along the last axis: 5 of 6 layers
    affine = torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0], dtype=torch.float64))
    meta = {"original_affine": affine, "spatial_shape": (20, 20, 20)}
    label = torch.zeros(1, 20, 20, 20)
    label[:, 1:5, 1:5, 1:5] = 5
    label[:, 8:14, 8:14, 5:11] = 2
    pred = torch.zeros(3, 20, 20, 20)
    pred[2, 1:5, 1:5, 1:5] = 1
    pred[1, 8:14, 8:14, 6:12] = 1
    pred[0] = 1 - pred.sum(0)
    item = {
        "image": MetaTensor(torch.zeros(1, 20, 20, 20), affine=affine, meta=meta),
        "label": MetaTensor(label, affine=affine),
    }
    found = native_scores(item, pred, [0, 2, 5])
    assert found == {"dice": pytest.approx((5 / 6 + 1) / 2), "hd95": pytest.approx((3 + 0) / 2)}
    assert list(native_scores(item, pred, [0, 2, 5], ("assd",))) == ["assd"]
