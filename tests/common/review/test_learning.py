"""After a training review.json says what is usual, and what a score came to; no label is opened that may not be."""

from __future__ import annotations

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch

from common.grid.grid import Grid
from common.grid.network import BodyNetwork
from common.grid.preprocessing import ScanPreprocessing
from common.review.knowledge import read_knowledge
from common.review.learning import ReviewLearning, spaced
from common.serving.inferers import VolumeInferer

GRID = Grid((16, 16, 16), (2.0, 2.0, 2.0), (0, 3))


class Bright(torch.nn.Module):
    def forward(self, image):
        return torch.cat([5 * (0.5 - image), 5 * (image - 0.5)], 1)


def make_cases(folder, names):
    cases = []
    for number, name in enumerate(names):
        values = np.random.default_rng(number).uniform(0, 30, (16, 16, 16)).astype(np.float32)
        organ = np.zeros((16, 16, 16), np.uint8)
        organ[4:11, 4:11, 4 : 10 + number % 3] = 3
        values[organ > 0] += 100
        case = {"case": name}
        for kind, voxels in (("image", values), ("label", organ)):
            case[kind] = str(folder / f"{name}_{kind}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), case[kind])
        cases.append(case)
    return cases


@pytest.mark.parametrize("tested", [False, True])
def test_truth_is_that_of_validation_cases_where_these_are_scored(tmp_path, tested, capsys):
    train, validation, test = (make_cases(tmp_path, [f"{kind}_{n}" for n in range(4)]) for kind in ("a", "b", "c"))
    closed = [*train, *(validation if tested else test)]
    for case in closed:
        (tmp_path / f"{case['case']}_label.nii.gz").write_bytes(b"not to be opened")
    content = SimpleNamespace(validation=validation, test=test if tested else [])
    cohort = SimpleNamespace(cases=train, content=content, scored=test if tested else validation)
    network = BodyNetwork(Bright(), GRID.spatial_size, GRID.pixdim, GRID.label_values)
    model = tmp_path / "model.pt"
    torch.save(network.state_dict(), model)
    ReviewLearning(cohort, network, VolumeInferer(), ScanPreprocessing(GRID), str(model)).run()
    known = read_knowledge(model)
    assert known.volume.keys() == {3} and np.exp(known.volume[3][0]) == pytest.approx(7 * 7 * 7 * 8 / 1000, rel=0.2)
    content = json.loads((tmp_path / "review.json").read_text(encoding="utf-8"))
    assert str(tmp_path) not in json.dumps(content)
    assert known.calibration.cases == (0 if tested else 4)
    if tested:
        assert known.predict(0.5) == pytest.approx((0.5, 0.25, 0.75))
    else:  # what is found is right, so a score of less than 1 is worth more
        assert known.predict(0.85)[0] > 0.9 and known.above < 0.25
    assert "review: " in capsys.readouterr().out


def test_cases_are_spread_evenly():
    assert spaced(list(range(10)), 3) == [0, 3, 6] and spaced([1, 2], 5) == [1, 2] and spaced([], 4) == []
