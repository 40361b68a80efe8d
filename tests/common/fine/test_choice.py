"""A second level that has not learnt enough is not what is deployed."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from common.fine.cases import UNKNOWN, FineCases
from common.fine.choice import CASES, LEARNT, TAUGHT, Comparison, first_ones, mean_dice, refuse_unlearnt, shows
from common.grid.network import BodyNetwork
from common.grid.preprocessing import ScanPreprocessing
from common.levels.network import deployed, locate_then_segment
from support.networks.bright import TWO_LEVELS as GRID
from support.networks.bright import Bright


def networks(threshold: float, body: nn.Module | None = None) -> tuple[BodyNetwork, BodyNetwork]:
    coarse = BodyNetwork(Bright(0.3), GRID.spatial_size, GRID.pixdim, GRID.label_values)
    body = Bright(threshold) if body is None else body
    return coarse, BodyNetwork(body, GRID.finest.spatial_size, GRID.finest.pixdim, GRID.label_values)


class Opposite(Bright):
    """Says background where the image is over a limit."""

    def forward(self, image):
        return super().forward(image).flip(1)


@pytest.fixture
def case(tmp_path) -> dict[str, str]:
    image = np.zeros((40, 36, 32), np.float32)
    image[11:22, 13:24, 9:20] = 1
    for kind, values in (("image", image), ("label", (image * 7).astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{kind}.nii.gz")
    return {"case": "a", **{kind: str(tmp_path / f"{kind}.nii.gz") for kind in ("image", "label")}}


def cases(found: dict[str, str], coarse: BodyNetwork, folder) -> FineCases:
    cohort = SimpleNamespace(grid=GRID, whole_cases=[found])
    fine = FineCases(cohort, ScanPreprocessing(GRID), coarse, str(folder / "fine"))
    fine.prepare()
    return fine


def test_what_finds_nothing_is_refused_and_the_first_level_answers_and_is_kept(case, tmp_path):
    coarse, fine = networks(threshold=2.0)
    found = refuse_unlearnt(fine, cases(case, coarse, tmp_path))
    network = locate_then_segment(coarse, fine)
    assert fine.refused and found.refused and found.reached == 0 and found.wanted > 0.5
    assert found.by == "labels" and found.cases == 1
    assert deployed(network) is coarse and not any("fine" in name for name in deployed(network).state_dict())
    image = ScanPreprocessing(GRID)({"image": case["image"]})["image"]
    found = network(image.as_tensor()[None]).argmax(1)
    assert found.shape[1:] == image.shape[1:] and 0.3 < int(found.sum()) / (11 / 2) ** 3 < 2


def test_what_knows_more_is_kept(case, tmp_path):
    coarse, fine = networks(threshold=0.5)
    found = refuse_unlearnt(fine, cases(case, coarse, tmp_path))
    assert found.reached > 0.99 > found.wanted and not fine.refused
    network = locate_then_segment(coarse, fine)
    assert deployed(network) is network and any(name.startswith("fine.") for name in network.state_dict())


@pytest.mark.parametrize(("body", "refused"), [(Bright(0.5), False), (Bright(2.0), True), (Opposite(0.5), True)])
def test_without_any_truth_it_has_to_say_what_it_was_taught(case, tmp_path, body, refused):
    coarse, fine = networks(0.5, body)
    del case["label"]
    found = refuse_unlearnt(fine, cases(case, coarse, tmp_path))
    assert (found.by, found.wanted, found.cases) == (TAUGHT, LEARNT, 1)
    assert found.refused == fine.refused == refused
    assert found.reached < 0.05 if refused else found.reached > LEARNT
    assert (8, 8, 8) in body.seen  # window by window, as it is deployed


def test_it_is_not_held_to_what_the_first_level_was_not_sure_of(case, tmp_path):
    coarse, fine = networks(0.5)
    del case["label"]
    given = cases(case, coarse, tmp_path)
    kept = given.work.bank().load("a")
    pred = torch.where(kept["image"][0].float() > 0.5, 1, 0)
    known = kept["label"][0] != UNKNOWN
    assert 0 < int(known.sum()) < known.numel()
    both = ((pred == 1) & (kept["label"][0] == 1))[known].sum()
    dice = 2 * both / ((pred == 1)[known].sum() + (kept["label"][0] == 1)[known].sum())
    assert refuse_unlearnt(fine, given).reached == pytest.approx(float(dice))


def test_what_was_taught_of_no_structure_is_refused(case, tmp_path):
    coarse, fine = networks(0.5)
    del case["label"]
    given = cases(case, coarse, tmp_path)
    bank = given.work.bank()
    kept = bank.load("a")
    kept["label"][kept["label"] == 1] = UNKNOWN
    bank.save("a", kept, count=1)
    found = refuse_unlearnt(fine, given)
    assert fine.refused and found == Comparison(TAUGHT, 0.0, LEARNT, 0)


def test_a_label_that_shows_nothing_is_no_truth_to_compare_by(case, tmp_path):
    coarse, fine = networks(0.5)
    given = cases(case, coarse, tmp_path)
    given.truth = lambda case, image: torch.zeros_like(image, dtype=torch.uint8)
    assert refuse_unlearnt(fine, given).by == TAUGHT


def test_dice_is_that_of_the_known_voxels():
    label = torch.tensor([1, 1, 0, 0, 2, UNKNOWN, UNKNOWN]).view(1, 1, 7)
    pred = torch.tensor([1, 0, 1, 0, 2, 1, 2]).view(1, 1, 7)
    assert mean_dice(pred, label, 4) == pytest.approx((0.5 + 1) / 2)  # class 3 is not there
    assert shows(label) and not shows(label.masked_fill(label < 3, 0))


def test_no_more_cases_are_segmented_than_it_takes():
    made = []
    found = first_ones((made.append(number), None if number < 2 else number)[1] for number in range(10))
    assert found == [2, 3, 4] and len(found) == CASES and made == [0, 1, 2, 3, 4]


def test_the_line_says_by_what_it_was_refused():
    taught = str(Comparison(TAUGHT, 0.31, LEARNT, 3))
    assert "has not learnt what level 1 taught it (Dice 0.31 on 3 training cases, wanted 0.75): level 1 alone" in taught
    masks = str(Comparison("masks of slices", 0.2, 0.5, 2))
    assert "less than level 1 (Dice 0.20 and 0.50 by the masks of slices of 2 training cases)" in masks
