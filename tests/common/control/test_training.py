"""The plain control: the method's own network, optimizer and schedule from the same start, saved as any model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.data import DataLoader, Dataset
from torch import nn
from torch.optim import SGD

from common.control.training import PlainControl
from common.errors import InputError
from common.files.tensor_files import load_strictly, load_tensors
from common.grid.network import BodyNetwork
from common.learning.schedules import WarmCosineLR
from common.levels.network import LocateThenSegment
from common.pseudo_labels.objective import SegmentObjective
from common.run.run import Run
from common.training.stage import Stage

SIZE = (4, 4, 4)
EPOCHS = 3
NO_FINE = SimpleNamespace(network_for=lambda coarse, name: None)


def make_network(pixdim: float = 2.0, seed: int = 0) -> BodyNetwork:
    torch.manual_seed(seed)
    return BodyNetwork(nn.Conv3d(1, 2, 1), SIZE, (pixdim,) * 3, (0, 1))


def make_loader() -> DataLoader:
    image = torch.rand(6, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    target = torch.cat([image < 0.5, image >= 0.5], dim=1).float()
    items = [{"case": str(n), "image": image[n], "target": target[n], "weight": torch.ones(1, *SIZE)} for n in range(6)]
    return DataLoader(Dataset(items), batch_size=2)


class Control(PlainControl):
    def loader(self):
        return self.dataloader

    def objective(self, network):
        return SegmentObjective(network)


class NoLabels(Control):
    def loader(self):
        return None


def parts(folder) -> dict:
    """Return what a method is trained by."""
    network, loader = make_network(), make_loader()
    optimizer = SGD(network.parameters(), lr=0.5, momentum=0.9)
    schedule = WarmCosineLR(optimizer, EPOCHS * len(loader), warm_up=0.3)
    run = Run(str(folder), str(folder / "eval"), str(folder / "models"), str(folder / "cache"))
    found = {"run": run, "network": network, "dataloader": loader, "optimizer": optimizer, "lr_scheduler": schedule}
    return {**found, "epochs": EPOCHS}


def train(given: dict, name: str) -> None:
    """Train the method by the control's loss."""
    network = given["network"]
    Stage(
        given["run"], name, EPOCHS, given["dataloader"], network, SegmentObjective(network), given["optimizer"],
        given["lr_scheduler"],
    ).run()  # fmt: skip


def test_control_learns_as_the_method_would_have_from_the_same_start(tmp_path, recwarn):
    given = parts(tmp_path)
    first = {name: value.clone() for name, value in given["network"].state_dict().items()}
    control = Control("true", **given)
    train(given, "method")  # the control's start is of before that
    learnt = {name: value.clone() for name, value in given["network"].state_dict().items()}
    plan = SimpleNamespace(trainers={})
    control.run(plan, NO_FINE)
    assert list(plan.trainers) == ["control"] and plan.trainers["control"].state.epoch == EPOCHS
    wanted = parts(tmp_path / "again")
    train(wanted, "control")
    for name, value in wanted["network"].state_dict().items():
        assert torch.equal(control.deployed.state_dict()[name], value), name
        assert torch.equal(given["network"].state_dict()[name], learnt[name]), name  # left alone
    assert not torch.equal(learnt["body.weight"], first["body.weight"])
    assert not [warning for warning in recwarn if "lr_scheduler" in str(warning.message)]


def test_weights_are_a_model_that_a_network_of_the_same_kind_loads(tmp_path, capsys):
    control = Control(True, **parts(tmp_path))
    control.run(SimpleNamespace(trainers={}), NO_FINE)
    network = make_network(seed=1)
    load_strictly(network, load_tensors(tmp_path / "models" / "control.pt", "cpu"), tmp_path)
    assert torch.equal(network.body.weight, control.network.body.weight)
    assert "models/control.pt" in capsys.readouterr().out


def test_with_two_levels_both_are_deployed(tmp_path):
    asked = []
    fine = make_network(1.0, seed=2)
    control = Control(True, **parts(tmp_path))
    control.run(SimpleNamespace(trainers={}), SimpleNamespace(network_for=lambda *given: asked.append(given) or fine))
    assert asked == [(control.network, "control")] and isinstance(control.deployed, LocateThenSegment)
    names = load_tensors(tmp_path / "models" / "control.pt", "cpu").keys()
    assert {"coarse.body.weight", "fine.body.weight"} <= names


def test_unwanted_nothing_is_copied_trained_or_written(tmp_path):
    control = Control("false", **parts(tmp_path))
    plan = SimpleNamespace(trainers={})
    control.run(plan, NO_FINE)
    assert control.network is None and control.deployed is None and not plan.trainers
    assert not (tmp_path / "models").exists()
    with pytest.raises(InputError, match="plain_control"):
        Control("perhaps", **parts(tmp_path))


def test_without_a_label_that_is_said(tmp_path, capsys):
    control = NoLabels(True, **parts(tmp_path))
    control.run(SimpleNamespace(trainers={}), NO_FINE)
    assert control.deployed is None and "no label to learn from" in capsys.readouterr().out
