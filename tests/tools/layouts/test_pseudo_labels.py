"""Predictions as labels: which there are, where they are unsure, and what is no prediction of these labels."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from tools.layouts.pseudo_labels import Prediction, doubtful_cases, find_predictions, write_pseudo_label

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def prediction(tmp_path) -> Prediction:
    label = np.zeros((2, 2, 2), np.uint8)
    label[0] = 7
    probability = np.zeros((2, 2, 2, 2), np.float32)
    probability[0, ..., 1] = [[0.95, 0.89], [0.51, 0.9]]
    probability[1, ..., 0] = [[0.99, 0.99], [0.99, 0.6]]
    probability[..., 0] += (1 - probability.sum(-1)) * (label == 7)
    return Prediction(
        "a",
        save(tmp_path / "a.nii.gz", np.random.default_rng(0).random((2, 2, 2)).astype(np.float32)),
        save(tmp_path / "results/a/a_seg.nii.gz", label),
        save(tmp_path / "results/a/a_prob.nii.gz", probability),
    )


def test_unsure_voxels_get_the_highest_value_and_all_others_their_class(prediction, tmp_path):
    share = write_pseudo_label(prediction, [0, 7], 0.9, tmp_path / "out.nii.gz")
    found = nibabel.load(tmp_path / "out.nii.gz")
    assert np.asarray(found.dataobj).tolist() == [[[1, 2], [2, 1]], [[0, 0], [0, 2]]] and share == 3 / 8
    assert np.allclose(found.affine, AFFINE) and found.get_data_dtype() == np.uint8
    assert write_pseudo_label(prediction, [0, 7], 0, tmp_path / "out.nii.gz") == 0


def test_without_a_threshold_no_probabilities_are_needed(prediction, tmp_path):
    bare = Prediction("a", prediction.image, prediction.label, None)
    assert write_pseudo_label(bare, [0, 7], 0, tmp_path / "out.nii.gz") == 0
    with pytest.raises(InputError, match=r"a: has no a_prob.nii.gz; wanted predictions with --save_probabilities true"):
        write_pseudo_label(bare, [0, 7], 0.9, tmp_path / "out.nii.gz")


def test_what_is_no_prediction_of_this_scan_or_these_labels_is_a_line(prediction, tmp_path):
    with pytest.raises(InputError, match=r"a_seg.nii.gz: has values besides 0, 3; wanted predictions of these"):
        write_pseudo_label(prediction, [0, 3], 0, tmp_path / "out.nii.gz")
    with pytest.raises(InputError, match=r"a_prob.nii.gz: shape \(2, 2, 2, 2\); wanted \(2, 2, 2, 3\)"):
        write_pseudo_label(prediction, [0, 3, 7], 0.9, tmp_path / "out.nii.gz")
    moved = save(tmp_path / "moved.nii.gz", np.ones((2, 2, 2), np.float32), np.eye(4))
    with pytest.raises(InputError, match=r"a_seg.nii.gz: spacing 1, 2, 3 mm; wanted 1, 1, 1 mm as in moved.nii.gz"):
        write_pseudo_label(Prediction("a", moved, prediction.label, None), [0, 7], 0, tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()


def test_scans_without_a_prediction_are_not_found(prediction, tmp_path):
    cases = [{"case": name, "image": str(tmp_path / f"{name}.nii.gz")} for name in ("a", "b")]
    assert find_predictions(cases, tmp_path / "results") == [prediction]
    prediction.probabilities.unlink()
    assert find_predictions(cases, tmp_path / "results")[0].probabilities is None


def test_doubtful_cases_are_those_of_which_one_label_is_to_be_looked_at(tmp_path):
    text = "case,label,look\na,1,no\nb,1,no\nb,2,yes\nc,1,no\n"
    (tmp_path / "review.csv").write_text(text)
    assert doubtful_cases(tmp_path) == {"b"}
    (tmp_path / "review.csv").write_text("case,label\na,1\n")
    with pytest.raises(InputError, match=r"review.csv: can't be read"):
        doubtful_cases(tmp_path)
    with pytest.raises(InputError, match=r"wanted the review of an inference without --review false"):
        doubtful_cases(tmp_path / "nowhere")
