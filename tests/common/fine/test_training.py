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
from common.run.run import Run


class Cases:
    """Stand for FineCases: one case, of whichever coarse network."""

    device = "cpu"

    def __init__(self, folder, unlabeled: bool, network: str = "method", names: tuple = ()) -> None:
        self.folder, self.unlabeled, self.network, self.names = folder, unlabeled, network, names
        self.cases, self.labeled, self.classes = [], [], 2

    def of(self, network, name):
        return Cases(self.folder, self.unlabeled, network, (*self.names, name))

    def wanted(self):
        return [{"case": "a"}]

    def with_truth(self):
        return []

    def prepare(self):
        from safetensors.torch import save_file

        path = self.folder / f"{self.network}.safetensors"
        image = torch.rand(1, 12, 12, 12, generator=torch.Generator().manual_seed(0)).half()
        # the control's labels are the other way round
        label = ((image > 0.5) if self.network == "method" else (image <= 0.5)).byte()
        points = torch.tensor([[1, 6, 6, 6], [0, 5, 5, 5]], dtype=torch.int16)
        save_file({"image": image, "label": label, "points": points}, path)
        self.cases = [{"case": "a", "path": str(path), "labeled": False}]


def make(folder, unlabeled: bool) -> FineTraining:
    torch.manual_seed(0)
    network = BodyNetwork(nn.Conv3d(1, 2, 1), (8, 8, 8), (1, 1, 1), (0, 1))
    run = Run(str(folder), str(folder / "eval"), str(folder / "models"), str(folder / "cache"))
    plan = SimpleNamespace(trainers={})
    return FineTraining(run, plan, Cases(folder, unlabeled), network, Compose([]), 2, 3, 0.1)


def test_what_learns_from_labels_alone_serves_any_coarse_network(tmp_path):
    fine = make(tmp_path, unlabeled=False)
    fine.run()
    assert fine.network_for("other", "control") is fine.network and list(fine.plan.trainers) == ["fine"]


def test_what_learns_from_the_coarse_network_is_trained_again_from_the_same_start(tmp_path):
    fine = make(tmp_path, unlabeled=True)
    first = fine.network.body.weight.clone()
    fine.run()
    learnt = fine.network.body.weight.clone()
    other = fine.network_for("other", "control")
    assert list(fine.plan.trainers) == ["fine", "control fine"]
    assert torch.equal(fine.network.body.weight, learnt) and fine.cases.network == "method"
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


def test_one_level_needs_none(tmp_path):
    fine = make(tmp_path, unlabeled=True)
    fine.network = None
    assert fine.network_for("other", "control") is None
