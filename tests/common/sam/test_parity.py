"""Equality with the published networks: ../shared/specs/parity says weights, input and the numbers to get."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F

from common.errors import InputError
from common.files.tensor_files import load_strictly
from common.sam.build import build_sam
from common.sam.members.position_tables import resize_position_tables
from common.sam.members.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from common.sam.members.samus import samus_tensors
from common.sam.weights.known import find_weights
from support.networks.parity import (
    cases,
    check_case,
    check_queries,
    compare,
    decode_queries,
    filled,
    make_image,
    make_queries,
)


@cache
def published_shapes(name: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in build_sam(name, pretrained=False).state_dict().items()}


def published(name: str) -> torch.nn.Module:
    try:
        path = find_weights(name)
    except InputError as error:
        pytest.skip(str(error))
    return build_sam(name, path)


@pytest.mark.parametrize("case", cases("lite_medsam", lambda case: case["image"]["seed"] == 12345))
def test_lite_medsam(case: dict) -> None:
    check_case(published("lite_medsam"), case)


@pytest.mark.parametrize("case", cases("mobile_sam", lambda case: case["image"]["seed"] == 12345))
def test_mobile_sam(case: dict) -> None:
    check_case(published("mobile_sam"), case)


@pytest.mark.parametrize("case", cases("sam_vit_b", lambda case: case["size"] == 224))
def test_sam_vit_b(case: dict) -> None:
    weights = filled("sam_vit_b", case["fill"], published_shapes("sam_vit_b"))
    sam = build_sam("sam_vit_b", image_size=case["size"], pretrained=False)
    tensors = resize_position_tables(weights, sam)
    for name, record in case.get("interpolated_tables", {}).items():
        compare(name, tensors[name], record)
    sam.load_state_dict(tensors)
    check_case(sam, case)


# one class and eight sub-classes beside "none"
HEADS = {"parent_fc.weight": torch.Size((1, 768, 1, 1)), "child_fc.weight": torch.Size((9, 768, 1, 1))}


@pytest.mark.parametrize("case", cases("samus", lambda case: case["image"]["seed"] == 12345))
def test_samus(case: dict) -> None:
    weights = filled("samus", case["fill"], published_shapes("samus") | HEADS)
    sam = build_sam("samus", pretrained=False)
    load_strictly(sam, samus_tensors(weights, sam), "fill")
    features, records = check_case(sam, case), case["records"]
    pooled = features.mean((2, 3), keepdim=True)
    for name in ("parent", "child"):
        compare(name, F.conv2d(pooled, weights[f"{name}_fc.weight"])[..., 0, 0], records[f"{name}_logits"])
    maps = F.conv2d(features, weights["parent_fc.weight"])
    maps = F.interpolate(maps, (256, 256), mode="bilinear", align_corners=False)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    compare("cam", (maps - low + 1e-6) / (high - low + 1e-6), records["cam"])


def efficient_sam(name: str, network: str, case: dict) -> torch.nn.Module:
    sam = build_sam(name, image_size=case["size"], pretrained=False)
    load_strictly(sam, filled(network, case["fill"], published_shapes(name)), "fill")
    return sam


@pytest.mark.parametrize("case", cases("efficientsam_vitt", lambda case: case["size"] == 224))
def test_efficient_sam_ti(case: dict) -> None:
    check_efficient_sam(efficient_sam("efficient_sam_ti", "efficientsam_vitt", case), case)


@pytest.mark.parametrize("case", cases("efficientsam_vits", lambda case: case["size"] == 224))
def test_efficient_sam_s(case: dict) -> None:
    check_efficient_sam(efficient_sam("efficient_sam_s", "efficientsam_vits", case), case)


@torch.no_grad()
def check_efficient_sam(sam: torch.nn.Module, case: dict) -> None:
    check_queries(sam, case)
    if "end_to_end" not in case:
        return
    asked = case["end_to_end"]
    image = make_image(**asked["image"])
    (height, width), side = image.shape[-2:], case["size"]
    mean, std = (torch.tensor(value).view(3, 1, 1) / 255 for value in (IMAGENET_MEAN, IMAGENET_STD))
    embedding = sam.image_encoder((F.interpolate(image, (side, side), mode="bilinear") - mean) / std)
    points, labels = make_queries(asked)
    sparse, dense = sam.prompt_encoder((points * torch.tensor([side / width, side / height]), labels))
    logits, iou = decode_queries(sam, embedding, sparse, dense, multi=True)
    masks = F.interpolate(logits[0], (height, width), mode="bicubic")[None]
    compare("end to end", masks, case["records"]["end_to_end_masks"])
    compare("end to end iou", iou, case["records"]["end_to_end_iou"])
