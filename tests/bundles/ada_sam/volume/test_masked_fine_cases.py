"""Masks of slices are on fine voxels what they are in their file, and nothing else of the file is."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from common.fine.cases import UNKNOWN
from common.grid.network import BodyNetwork
from common.grid.preprocessing import ScanPreprocessing
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


def prepared(masked, folder, slices: dict[str, list[int]], threshold: float = 0.3):
    cohort = SimpleNamespace(
        grid=GRID,
        whole_cases=[{key: masked[key] for key in ("case", "image")}],
        label_slices=slices,
        masked_case=lambda name: masked,
    )
    network = BodyNetwork(Bright(threshold), GRID.spatial_size, GRID.pixdim, GRID.label_values)
    fine = MaskedFineCases(cohort, ScanPreprocessing(GRID), network, str(folder / "fine"))
    fine.prepare()
    return fine, fine.work.bank().load("a")


def test_a_labelled_slice_has_its_mask_and_all_others_what_the_coarse_network_says(masked, tmp_path):
    fine, found = prepared(masked, tmp_path, {"a": [SLICE]})
    _, plain = prepared(masked, tmp_path / "plain", {})
    assert len(fine.cases) == 1 and found["image"].shape == plain["image"].shape
    differs = (found["label"] != plain["label"])[0].flatten(0, 1).any(0)  # [d]
    assert int(differs.sum()) == 1
    own = found["label"][0, ..., int(differs.nonzero()[0, 0])]
    assert int((own == 1).sum()) == 2 * 6 and UNKNOWN not in own.unique()  # 4 x 12 mm in voxels of 2 mm


def test_a_mask_teaches_where_the_coarse_network_finds_nothing(masked, tmp_path):
    fine, found = prepared(masked, tmp_path, {"a": [SLICE]}, threshold=2.0)
    assert len(fine.cases) == 1 and int((found["label"] == 1).sum()) == 2 * 6
    known = (found["label"] != UNKNOWN)[0].flatten(0, 1).any(0)
    assert int(known.sum()) == 1
    assert not prepared(masked, tmp_path / "none", {}, threshold=2.0)[0].cases
