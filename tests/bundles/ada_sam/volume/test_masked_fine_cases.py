"""Masks of slices are on fine voxels what they are in their file, and nothing else of the file is."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch

from common.fine.cases import UNKNOWN
from common.fine.choice import refuse_unlearnt
from common.grid.network import BodyNetwork
from common.grid.preprocessing import ImagePreprocessing, ScanPreprocessing
from support.bundle.path import import_bundle
from support.networks.bright import TWO_LEVELS as GRID
from support.networks.bright import Bright

MaskedFineCases = import_bundle("ada_sam", "volume.masked_fine_cases").MaskedFineCases
SLICE = 16


@pytest.fixture
def masked(tmp_path) -> dict:
    """A bright cube of which the mask has a third on its labelled slice; elsewhere it has values nobody may read."""
    image = np.zeros((40, 36, 32), np.float32)
    image[10:22, 12:24, 8:24] = 1
    label = np.full(image.shape, 99, np.uint8)
    label[..., SLICE] = 0
    label[10:14, 12:24, SLICE] = 7
    for kind, values in (("image", image), ("label", label)):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 1.0, 1])), tmp_path / f"a_{kind}.nii.gz")
    bits = [int(8 <= index < 24) for index in range(32)]
    return {
        "case": "a",
        "image": str(tmp_path / "a_image.nii.gz"),
        "label": str(tmp_path / "a_label.nii.gz"),
        "slice_labels": {"axis": 2, "labels": {"7": bits}},
    }


def labelling(masked, threshold: float):
    """Stand for the labeller: what is brighter is the structure."""
    seen = ImagePreprocessing(GRID)({"image": masked["image"]})["image"]
    bright = (seen.as_tensor() > threshold).float()
    return SimpleNamespace(on_slices=lambda case: (torch.cat([1 - bright, bright]), seen))


def prepared(masked, folder, slices: dict[str, list[int]], threshold: float = 0.3):
    cohort = SimpleNamespace(
        grid=GRID,
        whole_cases=[{key: masked[key] for key in ("case", "image")}],
        label_slices=slices,
        masked_case=lambda name: masked,
    )
    network = BodyNetwork(Bright(threshold), GRID.spatial_size, GRID.pixdim, GRID.label_values)
    fine = MaskedFineCases(
        labelling(masked, threshold), cohort=cohort, preprocessing=ScanPreprocessing(GRID), network=network,
        folder=str(folder / "fine"),
    )  # fmt: skip
    fine.prepare()
    return fine, fine.work.bank().load("a")


def test_a_labelled_slice_has_its_mask_and_all_others_their_pseudo_label(masked, tmp_path):
    fine, found = prepared(masked, tmp_path, {"a": [SLICE]})
    _, plain = prepared(masked, tmp_path / "plain", {})
    assert len(fine.cases) == 1 and found["image"].shape == plain["image"].shape
    differs = (found["label"] != plain["label"])[0].flatten(0, 1).any(0)  # [d]
    assert int(differs.sum()) == 1
    own = found["label"][0, ..., int(differs.nonzero()[0, 0])]
    assert int((own == 1).sum()) == 2 * 6 and UNKNOWN not in own.unique()  # 4 x 12 mm in voxels of 2 mm


def test_a_mask_teaches_where_there_is_no_pseudo_label(masked, tmp_path):
    fine, found = prepared(masked, tmp_path, {"a": [SLICE]}, threshold=2.0)
    assert len(fine.cases) == 1 and int((found["label"] == 1).sum()) == 2 * 6
    known = (found["label"] != UNKNOWN)[0].flatten(0, 1).any(0)
    assert int(known.sum()) == 1
    assert not prepared(masked, tmp_path / "none", {}, threshold=2.0)[0].cases


@pytest.mark.parametrize(("threshold", "refused"), [(0.5, False), (2.0, True)])
def test_both_levels_are_compared_by_the_masks_and_nothing_else(masked, tmp_path, threshold, refused):
    values = np.asarray(nibabel.load(masked["label"]).dataobj).copy()
    values[10:22, 12:24, SLICE] = 7  # all that is bright; other slices have values that nobody may read
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), masked["label"])
    cases, _ = prepared(masked, tmp_path, {"a": [SLICE]})
    fine = BodyNetwork(Bright(threshold), GRID.finest.spatial_size, GRID.finest.pixdim, GRID.label_values)
    found = refuse_unlearnt(fine, cases)
    assert (found.by, found.cases, found.refused) == ("masks of slices", 1, refused) and fine.refused == refused
    assert 0.5 < found.wanted < 1 and found.reached == pytest.approx(0 if refused else 1)


def test_a_mask_is_the_truth_on_its_slice_alone_and_cases_with_most_come_first(masked, tmp_path):
    cases, _ = prepared(masked, tmp_path, {"a": [SLICE]})
    image = cases.preprocessing({"image": masked["image"]})["image"]
    truth = cases.truth({"case": "a"}, image)
    known = (truth != UNKNOWN)[0].flatten(0, 1)
    assert int(known.any(0).sum()) == 1 == int(known.all(0).sum()) and set(truth.unique().tolist()) == {0, 1, UNKNOWN}
    cases.cohort.whole_cases = [{"case": name, "image": ""} for name in "abc"]
    cases.cohort.label_slices = {"a": [SLICE], "c": [1, 2]}
    assert [case["case"] for case in cases.with_truth()] == ["c", "a"]


def test_masks_tell_what_is_one_piece(masked, tmp_path):
    cases, _ = prepared(masked, tmp_path, {"a": [SLICE]})
    cases.cohort.one_piece = [False, True]
    assert cases.one_piece() == [False, True]
