from __future__ import annotations

import argparse
import fractions
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.errors import InputError
from common.files.tensor_files import load_strictly, read_tensors


class Payload:
    """Unpickled, it makes a file: the test sees whether that happened."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


def one_line(error: pytest.ExceptionInfo) -> str:
    (line,) = error.value.problems
    assert "\n" not in line
    return line


def test_a_pickle_payload_is_refused_and_not_executed(tmp_path) -> None:
    witness, path = tmp_path / "executed", tmp_path / "evil.pt"
    torch.save({"weight": torch.ones(2), "extra": Payload(witness)}, path)
    with pytest.raises(InputError) as error:
        read_tensors(path)
    assert str(path) in one_line(error) and "nothing was executed" in str(error.value)
    assert not witness.exists()


@pytest.mark.parametrize("extra", [argparse.Namespace(lr=0.1), Path("x"), fractions.Fraction(1, 2), print])
def test_what_training_scripts_save_beside_weights_is_refused(tmp_path, extra) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"model": {"weight": torch.ones(2)}, "args": extra}, path)
    with pytest.raises(InputError) as error:
        read_tensors(path)
    assert str(path) in one_line(error) and "nothing was executed" in str(error.value)


@pytest.mark.parametrize("key", [None, "model_state_dict", "model", "state_dict"])
def test_flat_and_nested_weights(tmp_path, key) -> None:
    path, tensors = tmp_path / "weights.pt", {"a": torch.arange(3.0)}
    torch.save(tensors if key is None else {"epoch": 3, key: tensors}, path)
    assert read_tensors(path)["a"].equal(tensors["a"])


def test_safetensors(tmp_path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(3.0)}, path)
    assert read_tensors(path)["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 truncated"])
def test_files_that_are_no_weights(tmp_path, name, content) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_tensors(path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize("content", [{"a": torch.ones(1), "epoch": 3}, [1, 2], {}, torch.ones(2)])
def test_content_that_is_not_named_tensors(tmp_path, content) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match="wanted named tensors"):
        read_tensors(path)


def test_missing_file(tmp_path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_tensors(tmp_path / "none.pt")


def test_strict_loading_lists_every_misfit_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tensors = {name: value + 1 for name, value in before.items()}
    del tensors["0.bias"]
    tensors["2.bias"] = torch.ones(1)
    tensors["1.weight"] = torch.ones(1, 4)
    with pytest.raises(InputError) as error:
        load_strictly(model, tensors, "file.pt")
    assert error.value.problems == [
        "file.pt: 1 missing tensors: 0.bias",
        "file.pt: 1 unexpected tensors: 2.bias",
        "file.pt: 1 wrong-shaped tensors: 1.weight found (1, 4) wanted (1, 3)",
    ]
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    load_strictly(model, {name: value + 1 for name, value in before.items()}, "file.pt")
    assert model.state_dict()["0.bias"].equal(before["0.bias"] + 1)
