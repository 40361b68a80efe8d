from __future__ import annotations

import numpy as np
import pytest

from support.bundle.path import import_bundle

slice_parity = import_bundle("weakmedsam", "scoring.slice_parity").slice_parity


def volumes() -> tuple[np.ndarray, np.ndarray]:
    pred, label = np.zeros((2, 12, 12, 4), bool)
    label[2:6, 2:6, 1:3] = True  # slices 1 and 2
    pred[2:6, 4:8, 1] = True  # half of slice 1, and slice 2 missed
    pred[0, 0, 3] = True  # a false pixel on an empty slice
    return pred, label


def test_each_slice_counts_by_itself():
    found = slice_parity(*volumes(), axis=2)
    # empty and right, half, missed, false pixel
    assert found["slice dice"] == pytest.approx((1 + 0.5 + 0 + 0) / 4, abs=1e-6)
    assert found["slice jaccard"] == pytest.approx((1 + 1 / 3 + 0 + 0) / 4, abs=1e-6)


def test_distances_are_pixels_of_slices_that_both_have():
    pred, label = volumes()
    found = slice_parity(pred, label, axis=2)
    assert found["slice hd95 px"] == pytest.approx(2.0)  # shifted by two pixels
    assert 0 < found["slice assd px"] < 2
    alone = slice_parity(pred[..., 1:2], label[..., 1:2], axis=2)  # the missed slice makes it no worse
    assert alone["slice assd px"] == found["slice assd px"]


def test_a_model_that_finds_nothing_scores_the_share_of_empty_slices():
    _, label = volumes()
    found = slice_parity(np.zeros_like(label), label, axis=2)
    assert found["slice dice"] == pytest.approx(0.5, abs=1e-5) and np.isnan(found["slice hd95 px"])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axis_is_that_of_the_slices(axis):
    pred, label = (np.moveaxis(volume, 2, axis) for volume in volumes())
    assert slice_parity(pred, label, axis) == slice_parity(*volumes(), 2)
