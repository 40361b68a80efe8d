"""A second level that has learnt nothing is not what is deployed."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from common.fine.cases import FineCases
from common.fine.choice import refuse_worse
from common.grid.network import BodyNetwork
from common.grid.preprocessing import ScanPreprocessing
from common.levels.network import deployed, locate_then_segment
from support.networks.bright import TWO_LEVELS as GRID
from support.networks.bright import Bright


def networks(threshold: float) -> tuple[BodyNetwork, BodyNetwork]:
    coarse = BodyNetwork(Bright(0.3), GRID.spatial_size, GRID.pixdim, GRID.label_values)
    return coarse, BodyNetwork(Bright(threshold), GRID.finest.spatial_size, GRID.finest.pixdim, GRID.label_values)


@pytest.fixture
def case(tmp_path) -> dict[str, str]:
    image = np.zeros((40, 36, 32), np.float32)
    image[11:22, 13:24, 9:20] = 1
    for kind, values in (("image", image), ("label", (image * 7).astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{kind}.nii.gz")
    return {"case": "a", **{kind: str(tmp_path / f"{kind}.nii.gz") for kind in ("image", "label")}}


def cases(found: dict[str, str], coarse: BodyNetwork, folder) -> FineCases:
    cohort = SimpleNamespace(grid=GRID, whole_cases=[found])
    return FineCases(cohort, ScanPreprocessing(GRID), coarse, str(folder))


def test_what_finds_nothing_is_refused_and_the_first_level_answers_and_is_kept(case, tmp_path):
    coarse, fine = networks(threshold=2.0)
    found = refuse_worse(fine, cases(case, coarse, tmp_path))
    network = locate_then_segment(coarse, fine)
    assert fine.refused and found.refused and found.both_levels == 0 and found.first_level > 0.5 and found.cases == 1
    assert deployed(network) is coarse and not any("fine" in name for name in deployed(network).state_dict())
    image = ScanPreprocessing(GRID)({"image": case["image"]})["image"]
    found = network(image.as_tensor()[None]).argmax(1)
    assert found.shape[1:] == image.shape[1:] and 0.3 < int(found.sum()) / (11 / 2) ** 3 < 2


def test_what_knows_more_is_kept(case, tmp_path):
    coarse, fine = networks(threshold=0.5)
    found = refuse_worse(fine, cases(case, coarse, tmp_path))
    assert found.both_levels > 0.99 > found.first_level and not fine.refused
    network = locate_then_segment(coarse, fine)
    assert deployed(network) is network and any(name.startswith("fine.") for name in network.state_dict())


def test_without_a_label_nothing_is_compared(case, tmp_path):
    coarse, fine = networks(threshold=2.0)
    del case["label"]
    assert refuse_worse(fine, cases(case, coarse, tmp_path)) is None and not fine.refused
