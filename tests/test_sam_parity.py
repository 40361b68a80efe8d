"""Equality with the published networks: ../shared/specs/parity says weights, input and the numbers to get."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from parity import cases, check_case, compare, filled

from common.errors import InputError
from common.sam.build import build_sam
from common.sam.position_tables import resize_position_tables
from common.sam.weights import find_weights


@cache
def published_shapes() -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in build_sam("sam_vit_b", pretrained=False).state_dict().items()}


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
    weights = filled("sam_vit_b", case["fill"], published_shapes())
    sam = build_sam("sam_vit_b", image_size=case["size"], pretrained=False)
    tensors = resize_position_tables(weights, sam)
    for name, record in case.get("interpolated_tables", {}).items():
        compare(name, tensors[name], record)
    sam.load_state_dict(tensors)
    check_case(sam, case)
