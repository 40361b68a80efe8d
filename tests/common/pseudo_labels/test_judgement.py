from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle

judgement = import_bundle("weakmedsam", "common.pseudo_labels.judgement")


def test_each_label_is_judged_by_itself():
    found = torch.zeros(2, 4, 4, 4, dtype=torch.bool)
    found[0, :2, :2, 1:3] = True  # 8 voxels of 6 mm3, the same on both slices
    prior = found.clone()
    prior[0, :2, :2, 2] = False
    judged = judgement.judge(found, prior, [1, 4], (1.0, 2.0, 3.0), 2)
    assert judged["volume_ml"] == {"1": pytest.approx(0.048), "4": 0.0}
    assert judged["agreement"] == {"1": pytest.approx(2 * 4 / 12), "4": 1.0}
    # pairs of neighbours: nothing and 4, 4 and 4, 4 and nothing
    assert judged["z_consistency"] == {"1": pytest.approx(2 * 4 / 16), "4": 1.0}


def test_consistency_is_along_the_slice_axis_and_falls_where_a_mask_jumps():
    found = torch.zeros(1, 6, 8, 8, dtype=torch.bool)
    found[0, :, :4, :4] = True
    steady = judgement.judge(found, found, [1], (1, 1, 1), 0)["z_consistency"]["1"]
    found[0, 3] = found[0, 3].flip(0)
    jumps = judgement.judge(found, found, [1], (1, 1, 1), 0)["z_consistency"]["1"]
    assert steady == 1 and jumps == pytest.approx(3 / 5)
    assert judgement.judge(found, found, [1], (1, 1, 1), 2)["z_consistency"]["1"] != jumps


def test_two_empty_masks_agree():
    empty = torch.zeros(5, dtype=torch.bool)
    assert judgement.overlap(empty, empty) == 1 and judgement.overlap(empty, ~empty) == 0
