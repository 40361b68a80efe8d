from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.fine.cases import UNKNOWN
from common.fine.registered_cases import RegisteredFineCases
from common.grid.network import BodyNetwork
from common.grid.preprocessing import ImagePreprocessing, ScanPreprocessing
from support.networks.bright import TWO_LEVELS as GRID
from support.networks.bright import Bright

CUBE = (slice(10, 22), slice(12, 24), slice(8, 20))  # what is bright, mm
BESIDE = (slice(20, 34), slice(20, 32), slice(16, 28))  # what the registration says


@pytest.fixture
def setting(tmp_path):
    """A scan without a label, and a labeller whose pseudo label of it lies elsewhere than what the network finds."""
    voxels = np.zeros((40, 36, 32), np.float32)
    voxels[CUBE] = 1
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "b.nii.gz")
    said = np.zeros_like(voxels)
    said[BESIDE] = 1
    nibabel.save(nibabel.Nifti1Image(said, np.eye(4)), tmp_path / "said.nii.gz")
    case = {"case": "b", "image": str(tmp_path / "b.nii.gz")}
    preprocessing = ImagePreprocessing(GRID)
    on_grid = preprocessing({"image": str(tmp_path / "said.nii.gz")})["image"].as_tensor()[0]
    pseudo = F.one_hot((on_grid > 0.5).long(), 2).movedim(-1, 0).float()
    item = preprocessing(dict(case))
    cohort = SimpleNamespace(grid=GRID, whole_cases=[case], images=[case])
    labeller = SimpleNamespace(
        cohort=cohort, images=[item], present=[1], min_agreement=0.7, selected=["b"],
        labels=SimpleNamespace(load=lambda name: {"label": pseudo}), finest=lambda item: (pseudo, item["image"]),
        network=Bright(0.5),
        view=lambda item: (item["image"].as_tensor()[None], None),
        predict=lambda image: F.one_hot((image[0, 0] > 0.5).long(), 2).movedim(-1, 0).float(),
    )  # fmt: skip
    return labeller, tmp_path


def prepared(labeller, folder):
    network = BodyNetwork(Bright(0.3), GRID.spatial_size, GRID.pixdim, GRID.label_values)
    fine = RegisteredFineCases(
        labeller, cohort=labeller.cohort, preprocessing=ScanPreprocessing(GRID), network=network,
        folder=str(folder / "fine"),
    )  # fmt: skip
    fine.prepare()
    return fine


def values_under(fine) -> torch.Tensor:
    """Return the intensities under what stands for the label."""
    found = fine.work.bank().load("b")
    return found["image"][0][found["label"][0] == 1]


def test_the_pseudo_label_that_was_learnt_from_stands_for_the_label(setting):
    labeller, folder = setting
    fine = prepared(labeller, folder)
    label = fine.work.bank().load("b")["label"][0]
    assert set(label.unique().tolist()) <= {0, 1, UNKNOWN}
    millilitres = float((label == 1).sum()) * np.prod(GRID.finest.pixdim) / 1000
    wanted = np.prod([s.stop - s.start for s in BESIDE]) / 1000
    assert 0.5 * wanted < millilitres < 1.3 * wanted
    assert float(values_under(fine).mean()) < 0.1  # it lies beside what is bright


def test_for_any_other_one_stands_the_first_level_where_it_agrees(setting):
    labeller, folder = setting
    labeller.selected, labeller.min_agreement = [], 0.0
    assert float(values_under(prepared(labeller, folder)).mean()) > 0.6


@pytest.mark.parametrize("network", [Bright(0.5), None])
def test_a_label_that_was_not_learnt_from_and_not_confirmed_teaches_nothing(setting, network):
    labeller, folder = setting
    labeller.selected, labeller.network = [], network
    assert prepared(labeller, folder).cases == []


@pytest.mark.parametrize("second", [False, True])
def test_the_one_label_tells_what_is_one_piece(setting, second):
    labeller, folder = setting
    label = np.zeros((40, 36, 32), np.uint8)
    label[BESIDE] = GRID.label_values[1]
    if second:
        label[2:8, 2:8, 2:8] = GRID.label_values[1]
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / "label.nii.gz")
    case = {"case": "a", "image": labeller.cohort.images[0]["image"], "label": str(folder / "label.nii.gz")}
    labeller.cohort.whole_cases = [case, *labeller.cohort.images]
    assert prepared(labeller, folder).one_piece() == [False, not second]


def test_a_plain_control_learns_from_no_pseudo_label(setting):
    labeller, folder = setting
    own = prepared(labeller, folder)
    other = own.of(Bright(0.5), "control")
    assert other.wanted() == [] and [case["case"] for case in own.wanted()] == ["b"]
    assert other.folder != own.folder and other.fewest > own.fewest
