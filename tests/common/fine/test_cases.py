from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch

from common.fine.cases import UNKNOWN, FineCases, find_points, read_patch
from common.grid.network import BodyNetwork
from common.grid.preprocessing import ScanPreprocessing
from support.networks.bright import TWO_LEVELS as GRID
from support.networks.bright import Bright


@pytest.fixture
def cases(tmp_path) -> list[dict]:
    """A case whose label is only half of what is bright, and one without a label."""
    found = []
    for name in ("a", "b"):
        image = np.zeros((40, 36, 32), np.float32)
        image[10:22, 12:24, 8:20] = 1
        label = (image * 7).astype(np.uint8)
        label[16:] = 0
        for kind, values in (("image", image), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 1.0, 1])), tmp_path / f"{name}_{kind}.nii.gz")
        found.append({"case": name, "image": str(tmp_path / f"{name}_image.nii.gz")})
    found[0]["label"] = str(tmp_path / "a_label.nii.gz")
    return found


def prepared(cases, folder, **options) -> FineCases:
    network = BodyNetwork(Bright(0.3), GRID.spatial_size, GRID.pixdim, GRID.label_values)
    cohort = SimpleNamespace(grid=GRID, whole_cases=cases)
    fine = FineCases(cohort, ScanPreprocessing(GRID), network, str(folder / "fine"), **options)
    fine.prepare()
    return fine


def test_a_label_is_the_truth_and_elsewhere_stands_what_the_coarse_network_is_sure_of(cases, tmp_path):
    fine = prepared(cases, tmp_path)
    assert [case["case"] for case in fine.cases] == ["a", "b"] and fine.labeled == [0]
    labels = [fine.work.bank().load(case)["label"] for case in ("a", "b")]
    assert abs(int((labels[0] == 1).sum()) - 3 * 6 * 6) <= 2  # 6 x 12 x 12 mm in voxels of 2 mm
    bright = int((labels[1] == 1).sum())
    assert 0.5 < bright / 6**3 < 2 and set(labels[1].unique().tolist()) <= {0, 1, UNKNOWN}


def test_windows_are_counted_by_where_the_structures_lie(cases, tmp_path):
    fine = prepared(cases, tmp_path)
    found = [fine.work.bank().load(case)["label"] for case in ("a", "b")]
    margin = np.array([2 * 10 / p for p in GRID.finest.pixdim])
    volumes = []
    for label in found:
        places = ((label[0] > 0) & (label[0] != UNKNOWN)).nonzero()
        volumes.append(np.prod((places.amax(0) - places.amin(0) + 1).numpy() + margin))
    assert fine.count_windows((4, 4, 4)) == pytest.approx(np.mean(volumes) / 64, rel=1e-4)
    assert fine.count_windows((400, 400, 400)) == 1


@pytest.mark.parametrize(("seen", "second", "one"), [(3, None, True), (2, None, False), (3, "case_1", False)])
def test_a_class_is_one_piece_where_enough_true_labels_all_say_so(cases, tmp_path, seen, second, one):
    label, found = nibabel.load(cases[0]["label"]), []
    for number in range(3):
        values = label.get_fdata().astype(np.uint8)
        if second == f"case_{number}":
            values[30:36, 28:34, 4:10] = 7
        path = tmp_path / f"{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values, label.affine), path)
        found.append({"case": f"case_{number}", "image": cases[0]["image"], "label": str(path)})
    assert prepared([*found[:seen], cases[1]], tmp_path).one_piece() == [False, one]  # cases[1] has no true label


def test_cases_without_a_label_can_be_left_out(cases, tmp_path):
    assert [case["case"] for case in prepared(cases, tmp_path, unlabeled=False).cases] == ["a"]


def test_a_case_in_which_nothing_is_found_is_not_learnt_from(cases, tmp_path):
    empty = tmp_path / "c.nii.gz"
    dark = np.zeros((20, 20, 20), np.float32)
    dark[0, 0, 0] = 1e-3  # one value alone is no image
    nibabel.save(nibabel.Nifti1Image(dark, np.eye(4)), empty)
    fine = prepared([*cases, {"case": "c", "image": str(empty)}], tmp_path)
    assert [case["case"] for case in fine.cases] == ["a", "b"]


def test_what_an_interrupted_run_has_made_is_used_again_and_only_then(cases, tmp_path):
    prepared(cases, tmp_path)
    cases[1]["image"] = "gone"
    assert len(prepared(cases, tmp_path, resume=True).cases) == 2
    with pytest.raises(RuntimeError, match="applying transform"):
        prepared(cases, tmp_path)


def test_a_patch_is_read_around_a_voxel_and_unknown_beyond_the_region(cases, tmp_path):
    fine = prepared(cases, tmp_path)
    path = fine.cases[0]["path"]
    whole = fine.work.bank().load("a")
    inner = read_patch(path, (4, 4, 4), (6, 6, 6))
    torch.testing.assert_close(inner["image"], whole["image"][:, 1:7, 1:7, 1:7])
    large = read_patch(path, (0, 0, 0), (40, 6, 6))
    assert large["image"].shape == large["label"].shape == (1, 40, 6, 6)
    assert bool((large["label"][:, 0] == UNKNOWN).all()) and bool(torch.isfinite(large["image"]).all())


def test_points_are_voxels_of_their_class():
    label = torch.zeros(10, 10, 10, dtype=torch.uint8)
    label[3, 4, 5], label[0] = 1, UNKNOWN
    points = find_points(label, 2)
    assert points[points[:, 0] == 1].tolist() == [[1, 3, 4, 5]]
    assert len(points) == 1 + 899


def test_a_label_goes_with_the_classes_that_it_tells_about(cases, tmp_path):
    assert [case["known"].tolist() for case in prepared(cases, tmp_path).cases] == [[True, True]] * 2
    cases[0]["known_labels"] = [3]
    assert prepared(cases, tmp_path).cases[0]["known"].tolist() == [True, False]
