from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.serving.model_file import StrictCheckpointLoader, require_model


def load(path, network):
    StrictCheckpointLoader(load_path=str(path), load_dict={"model": network})(None)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state}], ids=["flat", "under model"])
def test_both_forms_load(tmp_path, wrap):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save(wrap(source.state_dict()), tmp_path / "model.pt")
    load(tmp_path / "model.pt", target)
    assert torch.equal(source.weight, target.weight)


def test_missing_unexpected_and_wrong_shaped_tensors_are_named_and_nothing_is_loaded(tmp_path):
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    torch.save({"weight": torch.zeros(5, 3), "extra": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(InputError) as error:
        load(tmp_path / "model.pt", network)
    text = str(error.value)
    assert all(word in text for word in ("missing tensors: bias", "unexpected tensors: extra", "weight found (5, 3)"))
    assert torch.equal(network.weight, before)


class Trap:
    def __reduce__(self):
        return (open, ("trap", "w"))


def test_a_pickle_of_anything_else_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(InputError, match=r"model\.pt"):
        require_model(str(tmp_path / "model.pt"))
    assert not (tmp_path / "trap").exists()


def test_no_model_is_one_line_that_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"model\.pt: no such file; wanted a trained model: run train\.json") as error:
        require_model(str(tmp_path / "model.pt"))
    assert len(error.value.problems) == 1


def test_model_of_another_bundle_lacks_the_grid(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="no tensor pixdim"):
        require_model(str(tmp_path / "model.pt"), names=["weight", "pixdim"])
    require_model(str(tmp_path / "model.pt"), names=["weight"])
