from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch

from common.data.checks import check_cases, check_mask
from common.errors import InputError
from common.grid.grid import Grid
from common.grid.preprocessing import LabelPreprocessing
from common.scoring.metrics import case_metrics
from common.slices.masked_slices import read_label_slices
from common.volumes.label import LoadLabelVolumed, read_label, round_labels

LABELS, AFFINE = {0: "background", 1: "liver", 3: "spleen"}, np.diag([1.0, 1.5, 2.0, 1.0])
TRUTH = np.zeros((8, 9, 7), np.uint8)
TRUTH[2:6, 2:6, 2:5], TRUTH[5, 6, 2:5] = 1, 3


def as_floats(path):
    nibabel.save(nibabel.Nifti1Image(TRUTH.astype(np.float32) * np.float32(1 - 6e-8), AFFINE), path)


def as_integers_with_a_slope(path):
    nibabel.save(nibabel.Nifti1Image(TRUTH.astype(np.int16) * 255, AFFINE), path)
    content = bytearray(path.read_bytes())
    content[112:116] = np.float32(1 / 255).tobytes()  # scl_slope, which nibabel would choose itself
    path.write_bytes(content)


@pytest.fixture(params=[as_floats, as_integers_with_a_slope])
def label(request, tmp_path):
    path = tmp_path / "a.nii"
    request.param(path)
    stored = np.asarray(nibabel.load(path).dataobj)
    assert (stored % 1).any() and np.allclose(stored, TRUTH)
    return path


def test_labels_off_by_rounding_are_read_as_whole_numbers_everywhere(label, tmp_path):
    assert np.array_equal(read_label(label).array, TRUTH)
    loaded = LoadLabelVolumed("label")({"label": str(label)})["label"]
    assert np.array_equal(loaded[0].numpy(), TRUTH) and loaded.dtype == torch.uint8
    image = tmp_path / "image.nii"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).normal(size=TRUTH.shape), AFFINE), image)
    assert check_cases([{"case": "a", "image": image, "label": label}], LABELS, needs_foreground=["a"]) == []
    classes = read_label_slices(label, 2, [2, 4], LABELS, (TRUTH.shape, AFFINE), "a")
    assert np.array_equal(classes, np.searchsorted([0, 1, 3], TRUTH[..., [2, 4]]))
    one_hot = LabelPreprocessing(Grid(TRUTH.shape, (1.0, 1.5, 2.0), tuple(LABELS)))({"label": str(label)})["label"]
    assert np.array_equal(one_hot.argmax(0).numpy(), np.searchsorted([0, 1, 3], TRUTH))
    stored = np.asarray(nibabel.load(label).dataobj)
    assert [m["dice"] for m in case_metrics(stored, TRUTH, (1, 1, 1), LABELS).values()] == [1, 1]


def test_integers_keep_their_array_and_floats_their_type():
    whole = np.array([0, 3], np.int16)
    assert round_labels(whole) is whole
    rounded = round_labels(np.array([0.9995, 2.0005, 0.998, np.inf, np.nan], np.float32))
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, np.array([1, 2, 0.998, np.inf, np.nan], np.float32))


@pytest.mark.parametrize(("value", "shown"), [(0.9, "0.9"), (0.998, "0.998"), (65000.25, "65000.25")])
def test_what_is_no_whole_number_is_refused_and_shown(tmp_path, value, shown):
    array = TRUTH.astype(np.float32)
    array[0, 0, 0] = value
    line = f"the mask has fractional values ({shown}); wanted whole numbers"
    assert check_mask(array, LABELS) == [line]
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / "a.nii")
    with pytest.raises(InputError) as caught:
        LoadLabelVolumed("label")({"label": str(tmp_path / "a.nii")})
    assert caught.value.problems == [f"{tmp_path / 'a.nii'}: {line}"]
