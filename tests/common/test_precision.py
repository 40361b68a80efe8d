from __future__ import annotations

import pytest
import torch

from common.precision import bf16_autocast, bf16_supported


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"bf16": True}, True),
        ({"avx2": True}, False),
        ({}, False),
    ],
)
def test_cpu_follows_the_capabilities_of_the_processor(monkeypatch, capabilities, wanted) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert bf16_supported("cpu") is wanted


def test_unknown_devices_and_old_torch_stay_in_float32(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert bf16_supported("cpu") is False
    assert bf16_supported("meta") is False


@pytest.mark.parametrize(("amp", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_autocast_can_be_forced(amp, wanted) -> None:
    with bf16_autocast("cpu", amp):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == wanted


def test_autocast_follows_the_device_by_default(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with bf16_autocast("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
