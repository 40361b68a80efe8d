"""Fills, inputs and comparison of ../shared/specs/parity: outputs recorded with the published networks."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

PARITY = Path(__file__).parents[4] / "shared" / "specs" / "parity"
TOLERANCE = 1e-4

if not PARITY.is_dir():
    pytest.skip(f"parity fixtures are not at {PARITY}", allow_module_level=True)


@cache
def read(network: str) -> dict:
    return json.loads((PARITY / f"{network}.json").read_text(encoding="utf-8"))


def cases(network: str, always: Callable[[dict], bool]) -> list:
    """Return the cases of a network; those that are not for every run are marked slow."""
    found = [(case, () if always(case) else pytest.mark.slow) for case in read(network)["cases"]]
    return [pytest.param(case, marks=mark, id=case["id"]) for case, mark in found]


def make_image(kind: str, seed: int, shape: list[int]) -> torch.Tensor:
    generator = np.random.Generator(np.random.PCG64(seed))
    draw = generator.standard_normal if kind.endswith("normal") else generator.random
    if not kind.startswith("blocks"):
        return torch.from_numpy(draw(shape)).float()
    low, high = draw((*shape[:2], 16, 16)), draw(shape)
    image = low.repeat(shape[-1] // 16, axis=2).repeat(shape[-1] // 16, axis=3) + 0.1 * high
    return torch.from_numpy(image if kind == "blocks_normal" else image / 1.1).float()


def fill(name: str, shape: torch.Size, kind: str) -> torch.Tensor:
    value = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(tuple(shape))
    if kind == "A":
        scale = 0.02
    elif "rel_pos" in name:
        scale = 0.1
    elif name.endswith("positional_encoding_gaussian_matrix"):
        scale = 1.0
    elif name.endswith("pos_embed"):
        scale = 0.5
    elif len(shape) == 1:
        scale = 0.1
    else:
        scale = np.prod(shape[1:]) ** -0.5 * (2 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1)
    centre = 1 if name.endswith("weight") and len(shape) == 1 else 0
    return torch.from_numpy(np.asarray(centre + value * scale)).float()


def filled(network: str, kind: str, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Return the weights of a fill, checked against their recorded sum."""
    tensors = {name: fill(name, shape, kind) for name, shape in shapes.items()}
    total = sum(value.abs().sum(dtype=torch.double).item() for value in tensors.values())
    assert total == pytest.approx(read(network)["weights"]["fills"][kind]["abs_sum"], rel=1e-6)
    return tensors


def make_mask(seed: int, shape: list[int], scale: float = 1.0) -> torch.Tensor:
    return make_image("normal", seed, shape) * scale


def compare(what: str, got: torch.Tensor, record: dict) -> None:
    assert list(got.shape) == record["shape"], what
    got = got.double().flatten()
    limit = TOLERANCE * record["absmax"]
    error = (got[record["idx"]] - torch.tensor(record["val"], dtype=torch.double)).abs().max().item()
    assert error <= limit, f"{what}: {error:.2e} > {limit:.2e}"
    summary = {"mean": got.mean(), "std": got.std(correction=0), "absmax": got.abs().max()}
    for name, value in summary.items():
        assert abs(value.item() - record[name]) <= limit, f"{what}: {name} {value.item()} wanted {record[name]}"


def check_encoder(sam: torch.nn.Module, case: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what lies before the neck and the embedding, both checked."""
    image, records = make_image(**case["image"]), case["records"]
    compare("input", image, records["input"])
    before_neck = []
    handle = sam.image_encoder.neck.register_forward_pre_hook(lambda module, inputs: before_neck.append(inputs[0]))
    embedding = sam.image_encoder(image)
    handle.remove()
    compare("pre_neck", before_neck[0], records["pre_neck"])
    compare("image_encoder", embedding, records["image_encoder"])
    compare("dense_pe", sam.prompt_encoder.get_dense_pe(), records["dense_pe"])
    return before_neck[0], embedding


@torch.no_grad()
def check_case(sam: torch.nn.Module, case: dict) -> torch.Tensor:
    """Check encoder, prompts and decoder of a SAM; return what lies before the neck."""
    before_neck, embedding = check_encoder(sam, case)
    position = sam.prompt_encoder.get_dense_pe()
    for prompt in case["prompts"]:
        points = prompt["points"] and (torch.tensor(prompt["points"]), torch.tensor(prompt["labels"]))
        boxes = None if prompt["boxes"] is None else torch.tensor(prompt["boxes"])
        mask = prompt["mask"] and make_mask(**prompt["mask"])
        sparse, dense = sam.prompt_encoder(points, boxes, mask)
        compare(f"{prompt['id']} sparse", sparse, prompt["records"]["sparse"])
        compare(f"{prompt['id']} dense", dense, prompt["records"]["dense"])
        if len(embedding) == 1:
            image = embedding
        else:  # one prompt for each image: the decoder repeats one image for all prompts, then adds the dense prompts
            image, dense = torch.zeros_like(embedding[:1]), embedding + dense
        for kind in ("single", "multi"):
            logits, iou = sam.mask_decoder(image, position, sparse, dense, multimask_output=kind == "multi")
            compare(f"{prompt['id']} logits {kind}", logits, prompt["records"][f"low_res_logits_{kind}"])
            compare(f"{prompt['id']} iou {kind}", iou, prompt["records"][f"iou_{kind}"])
    return before_neck


@torch.no_grad()
def check_queries(sam: torch.nn.Module, case: dict) -> None:
    """Check encoder, prompts and decoder of an EfficientSAM; its queries [B, Q, ...] are prompts on one image."""
    _, embedding = check_encoder(sam, case)
    for prompt in case["prompts"]:
        sparse, dense = sam.prompt_encoder(make_queries(prompt))
        compare(f"{prompt['id']} sparse", sparse, prompt["records"]["sparse"])
        for kind in ("single", "multi"):
            logits, iou = decode_queries(sam, embedding, sparse, dense, multi=kind == "multi")
            compare(f"{prompt['id']} logits {kind}", logits, prompt["records"][f"low_res_logits_{kind}"])
            compare(f"{prompt['id']} iou {kind}", iou, prompt["records"][f"iou_{kind}"])


def make_queries(prompt: dict) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(prompt["points"]).flatten(0, 1), torch.tensor(prompt["labels"]).flatten(0, 1)


def decode_queries(sam: torch.nn.Module, embedding, sparse, dense, multi: bool) -> tuple[torch.Tensor, torch.Tensor]:
    position = sam.prompt_encoder.get_dense_pe()
    logits, iou = sam.mask_decoder(embedding, position, sparse, dense, multimask_output=multi)
    return logits[None], iou[None]
