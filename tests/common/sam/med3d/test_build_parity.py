"""Equality of SAM-Med3D with the published network: ../shared/specs/parity."""

from __future__ import annotations

import pytest
import torch

from common.sam.med3d.build import SamMed3D, build_sam_med3d
from support.networks.parity import cases, check_case, compare, filled, make_image


def shapes() -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {
            name: value.shape for name, value in build_sam_med3d("sam_med3d", pretrained=False).state_dict().items()
        }


def loaded(tensors: dict[str, torch.Tensor]) -> SamMed3D:
    with torch.device("meta"):  # the random weights of 100 million parameters would take longer than the encoder
        sam = build_sam_med3d("sam_med3d", pretrained=False)
    sam.load_state_dict(tensors, assign=True)
    return sam.requires_grad_(False)


@pytest.mark.parametrize("case", cases("sam_med3d", lambda case: case["fill"] == "B"))
def test_sam_med3d(case: dict) -> None:
    check_case(loaded(filled("sam_med3d", case["fill"], shapes())), case)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases("sam_med3d", lambda case: True))
def test_sam_med3d_from_a_file_through_encode_and_decode(case: dict, tmp_path) -> None:
    torch.save({"model_state_dict": filled("sam_med3d", case["fill"], shapes()), "epoch": 1}, tmp_path / "weights.pth")
    sam = build_sam_med3d("sam_med3d", tmp_path / "weights.pth")
    embedding = sam.encode(make_image(**case["image"]), amp=False)
    compare("encode", embedding, case["records"]["image_encoder"])
    # the first prompt of each case has a mask of zeros, for which None stands
    (prompt,) = [prompt for prompt in case["prompts"] if prompt["id"] == "click+zero_mask"]
    points = torch.tensor(prompt["points"]), torch.tensor(prompt["labels"])
    compare("decode", sam.decode(embedding, points), prompt["records"]["low_res_logits_single"])
