from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.errors import InputError
from common.files.tensor_files import atomic_save, load_strictly, load_tensors
from common.sam.adapters.lora import add_lora, lora_parameters
from common.sam.adapters.registry import merged_state
from common.sam.adapters.trainable_tensors import load_trainable, save_trainable
from support.networks.tiny_sam import tiny_sam

BASE = {"sam": "tiny_sam", "sha256": "ab" * 32, "image_size": 64}


class Adapted(nn.Module):
    """A SAM with adapters, a head and a buffer that training moves, in little."""

    def __init__(self, rank: int = 2, seed: int = 0, classes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(seed)  # of what is new; the base is always the same
        self.sam = tiny_sam(attention=True)
        if rank:
            add_lora(self.sam.image_encoder, rank)
        self.head = nn.Linear(32, classes)
        self.register_buffer("cam_high", torch.zeros(classes))
        self.sam.mask_decoder.requires_grad_(True)

    def names(self) -> list[str]:
        return [name for name, value in self.named_parameters() if value.requires_grad] + ["cam_high"]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.sam.image_encoder(image)
        box = torch.tensor([[8.0, 8.0, 40.0, 48.0]])
        return self.head(embedding.mean((2, 3))) + self.cam_high, self.sam.decode(embedding, boxes=box, amp=False)


@pytest.fixture
def trained() -> Adapted:
    module = Adapted(seed=1)
    own = module.state_dict()
    for name in module.names():
        own[name].add_(torch.randn(own[name].shape) * 0.1)
    return module


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def outputs(module: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    return module.eval()(image)


def test_another_module_with_the_same_base_computes_the_same(trained, image, tmp_path) -> None:
    path = tmp_path / "models" / "adapted.safetensors"
    save_trainable(path, trained, trained.names(), BASE | {"epoch": 3})
    other = Adapted(seed=2)
    assert not outputs(other, image)[0].equal(outputs(trained, image)[0])
    assert load_trainable(path, other) == BASE | {"epoch": 3}
    assert load_trainable(path, other, BASE) == BASE | {"epoch": 3}
    assert all(a.equal(b) for a, b in zip(outputs(other, image), outputs(trained, image), strict=True))


def test_the_file_holds_the_trained_tensors_and_only_they(trained, tmp_path) -> None:
    path = tmp_path / "adapted.safetensors"
    save_trainable(path, trained, trained.names(), BASE)
    content = load_file(path)
    assert set(content) == set(trained.names())
    assert set(lora_parameters(trained)) < set(content)
    assert not [name for name in content if name.startswith("sam.image_encoder") and ".qkv." not in name]
    size = sum(value.numel() * value.element_size() for value in content.values())
    assert path.stat().st_size < size + 30_000  # the rest is names and fingerprints
    with safe_open(path, framework="pt") as file:
        (said,) = file.metadata().values()
    assert json.loads(said)["base"] == BASE


def test_equal_content_gives_equal_files(trained, tmp_path) -> None:
    files = [tmp_path / f"{index}.safetensors" for index in range(4)]
    for file in files:
        save_trainable(file, trained, reversed(trained.names()), BASE)
    assert len({file.read_bytes() for file in files}) == 1
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files}


def test_the_merged_single_file_gives_the_same_output(trained, image, tmp_path) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    state = merged_state(trained)
    assert all(value.equal(before[name]) for name, value in trained.state_dict().items())
    assert not any(value.requires_grad for value in state.values())
    atomic_save(state, tmp_path / "model.pt")
    plain = Adapted(rank=0, seed=3)
    load_strictly(plain, load_tensors(tmp_path / "model.pt"), "model.pt")
    for found, wanted in zip(outputs(plain, image), outputs(trained, image), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    # the adapters did something
    assert (state["sam.image_encoder.blocks.0.attn.qkv.weight"]
            - before["sam.image_encoder.blocks.0.attn.qkv.weight"]).abs().max() > 1e-4  # fmt: skip


def test_merging_what_has_no_adapters_is_its_state() -> None:
    plain = Adapted(rank=0)
    state = merged_state(plain)
    assert list(state) == list(plain.state_dict())
    assert all(value.equal(state[name]) for name, value in plain.state_dict().items())


def problems_of(path: Path, module: nn.Module, base=None) -> list[str]:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_trainable(path, module, base)
    assert all(str(path) in line for line in error.value.problems)
    assert all(value.equal(before[name]) for name, value in module.state_dict().items()), "the module was changed"
    return error.value.problems


@pytest.fixture
def path(trained, tmp_path) -> Path:
    save_trainable(tmp_path / "adapted.safetensors", trained, trained.names(), BASE)
    return tmp_path / "adapted.safetensors"


def test_other_base_weights_are_named(path) -> None:
    other = Adapted()
    with torch.no_grad():
        other.sam.image_encoder.blocks[1].mlp.lin1.bias[0] += 1e-6
    (line,) = problems_of(path, other)
    assert ": 1 of " in line
    assert "not those it was trained beside: sam.image_encoder.blocks.1.mlp.lin1.bias" in line
    assert f"wanted the weights of tiny_sam (sha256 {BASE['sha256']}, image size 64)" in line


def test_another_base_by_its_description(path) -> None:
    lines = problems_of(path, Adapted(), {"sam": "tiny_sam", "sha256": "cd" * 32, "image_size": 128})
    assert lines == [
        f"{path}: trained beside sha256 '{BASE['sha256']}', wanted '{'cd' * 32}'",
        f"{path}: trained beside image_size 64, wanted 128",
    ]


def test_a_module_without_the_adapters_with_more_or_with_other_shapes(path) -> None:
    (line,) = problems_of(path, Adapted(rank=0))
    assert "8 unexpected tensors" in line and "blocks.0.attn.qkv.down.q" in line
    shapes = problems_of(path, Adapted(rank=3, classes=4))
    assert len(shapes) == 1 and "wrong-shaped tensors" in shapes[0]
    assert "head.bias found (2,) wanted (4,)" in shapes[0] and "qkv.down.q found (2, 32) wanted (3, 32)" in shapes[0]
    bigger = Adapted()
    bigger.feedback = nn.Linear(1, 1)
    (line,) = problems_of(path, bigger)
    assert "2 missing tensors: feedback.weight, feedback.bias" in line
    smaller = Adapted()
    del smaller.sam.image_encoder.neck[3]
    (line,) = problems_of(path, smaller)
    assert "2 unexpected tensors: sam.image_encoder.neck.3.bias, sam.image_encoder.neck.3.weight" in line


def test_a_file_without_adapters_for_a_module_with_them(tmp_path) -> None:
    plain, path = Adapted(rank=0), tmp_path / "plain.safetensors"
    save_trainable(path, plain, plain.names(), BASE)
    (line,) = problems_of(path, Adapted())
    assert "8 missing tensors" in line


def test_a_buffer_that_was_not_saved_though_it_moved(trained, tmp_path) -> None:
    path = tmp_path / "adapted.safetensors"
    save_trainable(path, trained, [name for name in trained.names() if name != "cam_high"], BASE)
    (line,) = problems_of(path, Adapted())
    assert "trained beside: cam_high" in line


def test_other_files(tmp_path) -> None:
    path = tmp_path / "other.safetensors"
    assert "no such file" in problems_of(path, Adapted())[0]
    save_file({"weight": torch.ones(1)}, path)
    assert "found no description of base weights" in problems_of(path, Adapted())[0]
    save_file({"weight": torch.ones(1)}, path, metadata={"trainable_tensors": "[]"})
    assert "found no description of base weights" in problems_of(path, Adapted())[0]
    path.write_bytes(b"half a fi")
    assert "not readable as weights" in problems_of(path, Adapted())[0]
    flat = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(1)}, flat)
    assert "found no description of base weights" in problems_of(flat, Adapted())[0]


def test_what_can_not_be_saved(trained, tmp_path) -> None:
    with pytest.raises(InputError) as error:
        save_trainable(tmp_path / "model.pt", trained, ["head.weight", "neck.weight"], {"sam": "tiny_sam"})
    suffix, name, base = error.value.problems
    assert "found suffix '.pt', wanted .safetensors" in suffix
    assert "found no tensor neck.weight in Adapted" in name
    assert "base lacks sha256, image_size" in base
    with pytest.raises(InputError, match="found no names of tensors"):
        save_trainable(tmp_path / "empty.safetensors", trained, [], BASE)
    assert not list(tmp_path.iterdir())
