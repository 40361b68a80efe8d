"""Bottleneck adapters behind the attention and beside the MLP of every block of an image encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError

BESIDE = 0.5  # of what an adapter beside an MLP adds
NAME = "bottleneck"


class Bottleneck(nn.Module):
    """Down, GELU, up over the last axis; 0 until it has learnt. [..., C] -> the same."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(x)))


def add_bottlenecks(encoder: nn.Module, rank: int) -> list[str]:
    """Put bottleneck adapters on every block with `attn` and `mlp` and return the names of the new parameters.

    One stands behind the attention, with a residual, one beside the MLP, whose output counts half (Wu et al., Medical
    SAM Adapter, 2023). They hang on the layers as hooks: all other parameters keep their names, and the encoder
    computes bit for bit the same until they are trained.

    Args:
        encoder: a SAM ViT, TinyViT, EfficientSAM's ViT or SAMUS.
        rank: width of a bottleneck.

    Raises:
        InputError: a width that can't be, no such block, or adapters already in; the encoder is unchanged.
    """
    problems = []
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        problems.append(f"bottleneck: rank is {rank!r}, wanted a whole number above 0")
    blocks = list(_blocks(encoder))
    if not blocks:
        kind = type(encoder).__name__
        problems.append(f"bottleneck: found no block with attn and mlp in {kind}, wanted a SAM encoder")
    if bottleneck_parameters(encoder):
        problems.append("bottleneck: found adapters, wanted an encoder without any")
    if problems:
        raise InputError(problems)
    for block in blocks:
        channels = _channels(block.attn)
        block.attn.add_module(NAME, Bottleneck(channels, rank))
        block.attn.register_forward_hook(_behind)
        block.mlp.add_module(NAME, Bottleneck(channels, rank))
        block.mlp.register_forward_hook(_beside)
    return bottleneck_parameters(encoder)


def bottleneck_parameters(module: nn.Module) -> list[str]:
    """Return the names of all such adapters' parameters in `module`, of any depth; none where there are none."""
    holders = {name for name, part in module.named_modules() if isinstance(part, Bottleneck)}
    return [name for name, _ in module.named_parameters() if name.rpartition(".")[0].rpartition(".")[0] in holders]


def _blocks(encoder: nn.Module) -> Iterator[Any]:
    """Yield the modules that have an attention with a fused projection, and an MLP."""
    for module in encoder.modules():
        attention, mlp = getattr(module, "attn", None), getattr(module, "mlp", None)
        if isinstance(getattr(attention, "qkv", None), nn.Linear) and isinstance(mlp, nn.Module):
            yield module


def _channels(attention: Any) -> int:
    return int(attention.qkv.in_features)


def _behind(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + module.get_submodule(NAME)(output)


def _beside(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + BESIDE * module.get_submodule(NAME)(inputs[0])
