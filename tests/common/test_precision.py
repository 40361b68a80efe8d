from __future__ import annotations

import pytest
import torch

from common.precision import bf16_autocast, bf16_supported, training_autocast


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


@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [
        ((2, 4, 4), 3, 1),
        ((2, 2, 1), 3, 1),
        ((3, 1, 1), 3, 2),
        ((4, 8, 8), 3, 2),
        ((4, 8, 8), 5, 1),
        ((6, 6, 6), 3, 1),
        ((4, 4, 1), (3, 3, 1), 1),
    ],
)
def test_gradients_of_small_convolutions_are_right_in_bfloat16(size, kernel, stride):
    """Noise up to infinity with plain autocast on a CPU with avx512_bf16; on others this passes with both."""
    torch.manual_seed(0)
    for in_channels, out_channels in ((20, 8), (16, 32)):
        padding = tuple(side // 2 for side in (kernel if isinstance(kernel, tuple) else (kernel,) * 3))
        convolution = torch.nn.Conv3d(in_channels, out_channels, kernel, stride, padding)
        image = torch.randn(1, in_channels, *size, requires_grad=True)
        gradients = []
        for amp in (False, True):
            with training_autocast("cpu", amp):
                out = convolution(image)
            gradients.append(torch.autograd.grad(out.float().square().sum(), [image, *convolution.parameters()]))
        for full, half in zip(*gradients, strict=True):
            assert (full - half).norm() < 0.05 * full.norm()


def test_only_small_convolutions_leave_bfloat16():
    flat = torch.nn.Conv2d(1, 1, 3, 2, 1)
    convolution = torch.nn.Conv3d(1, 1, 3, padding=1)
    with training_autocast("cpu", True):
        sizes = [(2, 8, 8), (8, 1, 8), (3, 2, 2), (8, 8, 8)]
        kinds = [convolution(torch.zeros(1, 1, *size)).dtype for size in sizes]
        flats = [flat(torch.zeros(1, 1, *size)).dtype for size in [(8, 1), (8, 8)]]
    assert kinds == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16]
    assert flats == [torch.float32, torch.bfloat16]
    with training_autocast("cpu", False):
        assert convolution(torch.zeros(1, 1, 8, 8, 8)).dtype == torch.float32
