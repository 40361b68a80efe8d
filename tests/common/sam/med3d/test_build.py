from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from common.errors import InputError
from common.sam.med3d.build import SamMed3D, build_sam_med3d, normalise

SPECIFICATION = Path(__file__).parents[5] / "shared" / "specs" / "state_dicts" / "sam_med3d_state_dict.txt"
TINY = {
    "image_size": 32,
    "patch_size": 8,
    "embedding_channels": 48,
    "mlp_channels": 32,
    "channels": 24,
    "depth": 2,
    "heads": 3,
    "global_blocks": (1,),
    "window": 5,
}


@pytest.fixture
def sam() -> SamMed3D:
    torch.manual_seed(0)
    return build_sam_med3d("sam_med3d", pretrained=False, **TINY)


def prompts(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(count, 2, 3, generator=generator) * 31, torch.tensor([[1, 0]]).expand(count, -1)


@pytest.mark.skipif(not SPECIFICATION.is_file(), reason=f"needs {SPECIFICATION}")
def test_names_and_shapes_are_those_of_the_published_network() -> None:
    lines = [line.split("\t") for line in SPECIFICATION.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    with torch.device("meta"):
        sam = build_sam_med3d("sam_med3d", pretrained=False)
    assert {name: str(tuple(value.shape)) for name, value in sam.state_dict().items()} == {
        name: shape for name, shape, *_ in lines
    }
    assert sum(parameter.numel() for parameter in sam.parameters()) == 100_509_232
    assert {name for name, _ in sam.named_buffers()} == {name for name, *_, kind in lines if kind == "buffer"}


def test_sizes_and_frozen_whatever_its_owner_does(sam) -> None:
    torch.nn.ModuleList([sam]).train()
    assert not any(module.training for module in sam.modules())
    assert not any(parameter.requires_grad for parameter in sam.parameters())
    embedding = sam.encode(torch.randn(2, 1, 32, 32, 32))
    assert embedding.shape == (2, 48, 4, 4, 4) and embedding.dtype == torch.float32
    assert sam.decode(embedding, prompts(2)).shape == (2, 1, 16, 16, 16)
    assert sam.mask_size == 16


def test_volumes_and_prompts_are_answered_independently(sam) -> None:
    volumes = torch.randn(2, 1, 32, 32, 32)
    embedding = sam.encode(volumes)
    torch.testing.assert_close(sam.encode(volumes[1:]), embedding[1:], rtol=1e-4, atol=1e-5)
    coords, labels = prompts(3)
    mask = torch.randn(3, 1, 16, 16, 16)
    answers = sam.decode(embedding[:1], (coords, labels), mask)
    for index in range(3):
        one = slice(index, index + 1)
        alone = sam.decode(embedding[:1], (coords[one], labels[one]), mask[one])
        torch.testing.assert_close(answers[one], alone, rtol=1e-4, atol=1e-5)
    repeated = sam.decode(embedding[:1].expand(3, -1, -1, -1, -1), (coords, labels), mask)
    torch.testing.assert_close(repeated, answers, rtol=1e-4, atol=1e-5)
    assert (answers[0] - answers[1]).abs().max() > 1e-3 * answers.abs().max()


def test_no_mask_stands_for_a_mask_of_zeros(sam) -> None:
    embedding = sam.encode(torch.randn(1, 1, 32, 32, 32))
    zeros = torch.zeros(2, 1, 16, 16, 16)
    assert sam.decode(embedding, prompts(2)).equal(sam.decode(embedding, prompts(2), zeros))
    assert sam.decode(embedding, mask=zeros).shape == zeros.shape


def test_bad_volumes_and_prompts_are_named(sam) -> None:
    with pytest.raises(InputError, match=r"found a volume \(1, 1, 32, 32, 16\), wanted \[B, 1, 32, 32, 32\]"):
        sam.encode(torch.randn(1, 1, 32, 32, 16))
    embedding, (coords, labels) = torch.zeros(2, 48, 4, 4, 4), prompts(3)
    with pytest.raises(InputError, match="found no prompt"):
        sam.decode(embedding)
    with pytest.raises(InputError, match=r"found \[3\] prompts on 2 embeddings"):
        sam.decode(embedding, (coords, labels))
    with pytest.raises(InputError) as error:
        sam.decode(embedding[:1], (coords, labels[:, :1]), torch.zeros(2, 1, 8, 8, 8))
    assert len(error.value.problems) == 3


def test_normalise_uses_the_voxels_above_zero_and_moves_all() -> None:
    volume = torch.rand(2, 1, 9, 8, 7, generator=torch.Generator().manual_seed(3)) * 5 + 1
    volume[0, :, :4] = 0
    volume[1, :, :, :2] = -3
    got = normalise(volume)
    for item in range(2):
        inside = volume[item] > 0
        values = volume[item][inside]
        torch.testing.assert_close(got[item], (volume[item] - values.mean()) / values.std())
        assert got[item][~inside].max() < got[item][inside].min()
    assert normalise(torch.zeros(1, 1, 4, 4, 4)).eq(0).all()
    assert normalise(torch.full((1, 1, 4, 4, 4), 2.0)).eq(0).all()


def save(sam: SamMed3D, path: Path, form: str) -> Path:
    tensors = sam.state_dict()
    if form == "safetensors":
        save_file(tensors, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    torch.save(tensors if form == "bare" else {"epoch": 3, "model_state_dict": tensors}, path)
    return path


@pytest.mark.parametrize("form", ["nested", "bare", "safetensors"])
@pytest.mark.parametrize("name", ["sam_med3d", "sam_med3d_turbo", "segany_pet"])
def test_checkpoints_load_strictly(sam, tmp_path, name, form) -> None:
    path = save(sam, tmp_path / "weights.pth", form)
    torch.manual_seed(1)
    loaded = build_sam_med3d(name, path, **TINY)
    assert loaded.name == name
    assert all(value.equal(loaded.state_dict()[key]) for key, value in sam.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_missing_unexpected_and_wrong_shaped_tensors_are_one_line_each(sam, tmp_path) -> None:
    tensors = sam.state_dict()
    del tensors["image_encoder.blocks.0.attn.rel_pos_d"]
    tensors["image_encoder.head.weight"] = torch.ones(3)
    tensors["image_encoder.pos_embed"] = torch.ones(1, 2, 2, 2, 24)
    path = tmp_path / "weights.pth"
    torch.save({"model_state_dict": tensors}, path)
    with pytest.raises(InputError) as error:
        build_sam_med3d("sam_med3d", path, **TINY)
    assert error.value.problems == [
        f"{path}: 1 missing tensors: image_encoder.blocks.0.attn.rel_pos_d",
        f"{path}: 1 unexpected tensors: image_encoder.head.weight",
        f"{path}: 1 wrong-shaped tensors: image_encoder.pos_embed found (1, 2, 2, 2, 24) wanted (1, 4, 4, 4, 24)",
    ]


def test_a_training_file_is_refused_with_the_command_that_converts_it(sam, tmp_path) -> None:
    path = tmp_path / "sam med3d.pth"
    torch.save({"model_state_dict": sam.state_dict(), "args": argparse.Namespace(lr=1e-4)}, path)
    with pytest.raises(InputError) as error:
        build_sam_med3d("sam_med3d", path, **TINY)
    (line,) = error.value.problems
    assert "nothing was executed" in line and "converted once, offline" in line
    command = line.partition("offline: python ")[2].partition("; then give ")[0]
    subprocess.run([sys.executable, *shlex.split(command)], check=True, cwd=tmp_path)
    loaded = build_sam_med3d("sam_med3d", line.partition("; then give ")[2], **TINY)
    assert all(value.equal(loaded.state_dict()[key]) for key, value in sam.state_dict().items())


def test_unknown_names_and_missing_files(tmp_path) -> None:
    with pytest.raises(InputError, match="found 'sam_vit_b', wanted one of sam_med3d, sam_med3d_turbo, segany_pet"):
        build_sam_med3d("sam_vit_b")
    with pytest.raises(InputError, match=r"wanted sam_med3d_turbo\.pth: download it from .*blueyo0/SAM-Med3D"):
        build_sam_med3d("sam_med3d_turbo", tmp_path / "none.pth")
