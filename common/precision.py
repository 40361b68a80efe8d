"""Whether bfloat16 pays on a device, and the autocast that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def bf16_supported(device: torch.device | str) -> bool:
    """Return True where bfloat16 products run in hardware.

    That is: x86 CPUs with avx512_bf16 or amx_bf16, Arm CPUs with bf16, CUDA GPUs from Ampere on.

    Emulated bfloat16 (any AVX2 machine, older GPUs) is slower than float32 and counts as not supported.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    # a torch without get_capabilities stays with float32, which is never wrong
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def bf16_autocast(device: torch.device | str, amp: bool | None = None) -> torch.autocast:
    """Return the autocast context of a device: bfloat16 if `amp`, or if `amp` is None and `bf16_supported(device)`."""
    enabled = bf16_supported(device) if amp is None else amp
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def training_autocast(device: torch.device | str, amp: bool) -> Iterator[None]:
    """Compute a training step's forward in bfloat16 if `amp`; on a CPU, small convolutions stay in float32.

    On x86 the bfloat16 kernels of torch 2.13 return weight gradients of noise, up to infinity, where a 3D convolution's
    output has fewer voxels along the first axis than its kernel, and write outside of their memory, or return noise,
    where a strided one has one along another (pytorch issue 169688 is the forward's case).
    """
    kind = torch.device(device).type
    if not (amp and kind == "cpu"):
        with torch.autocast(kind, torch.bfloat16, enabled=amp):
            yield
        return
    with torch.autocast(kind, torch.bfloat16), _SmallInFloat32():
        yield


class _SmallInFloat32(TorchFunctionMode):
    """Take convolutions out of autocast whose output is one voxel wide, or narrower than the kernel (see above)."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.conv2d, torch.conv3d) or not _small(args, kwargs):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_float32, args), **{name: _float32(one) for name, one in kwargs.items()})


def _float32(argument: Any) -> Any:
    return argument.float() if isinstance(argument, torch.Tensor) else argument


def _small(args: tuple, kwargs: dict[str, Any]) -> bool:
    maps, weight = (*args[:2], *(kwargs[name] for name in ("input", "weight")[len(args) :]))
    stride = args[3] if len(args) > 3 else kwargs.get("stride", 1)
    steps = (stride,) * (maps.ndim - 2) if isinstance(stride, int) else tuple(stride)
    sides = [-(-side // step) for side, step in zip(maps.shape[2:], steps, strict=True)]  # padded by half of the kernel
    return min(sides) == 1 or (len(sides) == 3 and sides[0] < weight.shape[2])
