"""The fine stage for another coarse network: the same fine one where it has learnt from labels alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.transforms import Compose
from torch import nn

from common.fine.choice import Comparison
from common.fine.training import FineTraining
from common.grid.network import BodyNetwork
from common.launch.words import truth
from common.run.run import Run


class Cases:
    """Stand for FineCases: one case, of whichever coarse network."""

    device = "cpu"

    def __init__(self, folder, unlabeled: bool, network: BodyNetwork, names: tuple = ()) -> None:
        self.folder, self.unlabeled, self.network, self.names = folder, unlabeled, network, names
        self.cases, self.labeled, self.classes = [], [], 2
        self.cohort = SimpleNamespace(labels={0: "background", 7: "bright"})

    def of(self, network, name):
        return Cases(self.folder, self.unlabeled, network, (*self.names, name))

    def one_piece(self):
        return [False, True]

    def count_windows(self, window):
        return 20 / window[0]

    def wanted(self):
        return [{"case": "a"}]

    def with_truth(self):
        return []

    def prepare(self):
        from safetensors.torch import save_file

        path = self.folder / f"{len(self.names)}.safetensors"
        image = torch.rand(1, 12, 12, 12, generator=torch.Generator().manual_seed(0)).half()
        # the control's labels are the other way round
        label = ((image > 0.5) if not self.names else (image <= 0.5)).byte()
        points = torch.tensor([[1, 6, 6, 6], [0, 5, 5, 5]], dtype=torch.int16)
        save_file({"image": image, "label": label, "points": points}, path)
        self.cases = [{"case": "a", "path": str(path), "labeled": False}]


class Unchanged:
    """Stand for Augmentation."""

    def __init__(self) -> None:
        self.asked = []

    def on_voxels_of(self, pixdim):
        self.asked.append(pixdim)
        return Compose([])


def network(spacing: float, classes: int = 2) -> BodyNetwork:
    return BodyNetwork(nn.Conv3d(1, classes, 1), (8, 8, 8), (spacing, spacing, 2.0), (0, 1))


def make(folder, unlabeled: bool) -> FineTraining:
    torch.manual_seed(0)
    run = Run(str(folder), str(folder / "eval"), str(folder / "models"), str(folder / "cache"))
    plan = SimpleNamespace(trainers={})
    cases = Cases(folder, unlabeled, network(2.0, classes=3))  # a method's own channel
    return FineTraining(run, plan, cases, network(1.0), Unchanged(), 2, 3, 0.1)


def test_it_begins_as_the_coarse_network_where_their_bodies_are_alike(tmp_path):
    fine = make(tmp_path, unlabeled=False)
    before, fine.learning_rate = fine.network.body.weight.clone(), 0.0
    fine.run()
    assert torch.equal(fine.network.body.weight, before)
    fine.cases.network = network(2.0)
    fine.run()
    assert torch.equal(fine.network.body.weight, fine.cases.network.body.weight)
    assert fine.network.pixdim.tolist() == [1, 1, 2]
    with torch.no_grad():
        fine.network.body.weight += 1  # of a model whose training goes on
    learnt = fine.network.body.weight.clone()
    fine.run()
    assert torch.equal(fine.network.body.weight, learnt)


@pytest.mark.parametrize("spacing", [2.0, 4.0])
def test_it_learns_on_larger_voxels_first_where_the_first_level_is_far_coarser(tmp_path, spacing):
    fine = make(tmp_path, unlabeled=False)
    fine.cases.network = network(spacing)
    fine.run()
    assert list(fine.plan.trainers) == ["fine wide", "fine"][spacing < 2.5 :]
    assert fine.augmentation.asked == [[2, 2, 2], [1, 1, 2]][spacing < 2.5 :]  # no slice is made thicker
    wide = fine.stage("wide", 1, [2, 2, 1]).data_loader
    assert next(iter(wide))["image"].shape == (2, 1, 8, 8, 8)


def test_what_learns_from_the_coarse_network_is_trained_again_from_the_same_start(tmp_path):
    fine = make(tmp_path, unlabeled=True)
    first = fine.network.body.weight.clone()
    fine.run()
    learnt = fine.network.body.weight.clone()
    other = fine.network_for(network(2.0, classes=3), "control")
    assert list(fine.plan.trainers) == ["fine", "control fine"]
    assert torch.equal(fine.network.body.weight, learnt) and fine.cases.names == ()
    # weights of the brighter class less those of the background move to opposite sides
    method, control = (weight.flatten() - first.flatten() for weight in (learnt, other.body.weight))
    assert (method[1] - method[0]) * (control[1] - control[0]) < 0


@pytest.mark.parametrize("both", [0.2, 0.8])
def test_what_is_refused_is_said_and_kept_in_run_json(tmp_path, monkeypatch, capsys, both):
    fine = make(tmp_path, unlabeled=False)
    found = Comparison("labels", both, 0.5, 2)
    monkeypatch.setattr("common.fine.training.refuse_unlearnt", lambda network, cases: found)
    fine.run()
    kept = fine.training_run.manifest.facts["levels_compared"]["fine"]
    assert kept == {"by": "labels", "reached": both, "wanted": 0.5, "cases": 2}
    line = "warning: level 2 has learnt less than level 1 (Dice 0.20 and 0.50 by the labels of 2 training cases)"
    assert (line in capsys.readouterr().out) == (both < 0.5)


def test_steps_are_planned_from_the_windows_that_structures_have_on_the_larger_voxels(tmp_path, capsys):
    fine = make(tmp_path, unlabeled=False)
    for wide, windows, epochs in ([1, 1, 1], 2.5, 667), ([2, 2, 1], 1.2, 334), ([0.1, 1, 1], 25, 1067):
        assert fine.plan_epochs(wide) == epochs  # of 3 steps: 800 a window, of four at most
        said = capsys.readouterr().out
        assert f"{epochs} epochs, for structures of {windows:.1f} windows" in said
        assert ("twice" in said) == (max(wide) > 1)


@pytest.mark.parametrize("one_piece", [True, "false"])
def test_what_labels_say_of_pieces_is_kept_and_said_unless_it_is_not_wanted(tmp_path, capsys, one_piece):
    fine = make(tmp_path, unlabeled=False)
    fine.pieces = truth("one_piece", one_piece)
    fine.run()
    assert fine.network.state_dict()["one_piece"].tolist() == [0, int(one_piece is True)]
    assert ("fine: of bright the largest piece is kept" in capsys.readouterr().out) == (one_piece is True)


def test_one_level_needs_none(tmp_path):
    fine = make(tmp_path, unlabeled=True)
    fine.network = None
    assert fine.network_for(network(2.0, classes=3), "control") is None
