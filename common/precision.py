"""Whether bfloat16 pays on a device, and the autocast that follows from it."""

from __future__ import annotations

import torch


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
