"""Factor-tuning of the queries and values: one pair of tensors for all blocks, and a small core for each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from .lora import PARTS, fused_layers, head_groups

TARGETS = ("q", "v")


class SharedFactors(nn.Module):
    """Into the rank and out of it, for all layers of one width: `into` [rank, C], random, and `out` [C, rank], zero."""

    def __init__(self, like: Tensor, channels: int, rank: int) -> None:
        super().__init__()
        self.into = nn.Parameter(like.new_empty(rank, channels))
        self.out = nn.Parameter(like.new_zeros(channels, rank))
        nn.init.kaiming_uniform_(self.into, a=math.sqrt(5))


class FactorLinear(nn.Linear):
    """A fused projection to q, k and v; q and v get out C_p into x, `out` and `into` shared by all layers.

    (Jie and Deng, FacT, 2023, as MA-SAM uses it.) The weight and bias of the layer that it takes the place of stay the
    same parameters under the same names; C_p is `core.p` [rank, rank].

    Args:
        linear: C -> 3 C channels.
        groups: heads where q, k and v lie side by side inside each head, 1 where all of q comes before all of k.
        shared: of its width; registered once, on the encoder.
        rank: of the core.
    """

    def __init__(self, linear: nn.Linear, groups: int, shared: SharedFactors, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.groups, self._shared = groups, [shared]  # in a list it is no part of this module
        self.core = nn.ParameterDict({part: nn.Parameter(linear.weight.new_empty(rank, rank)) for part in TARGETS})
        for core in self.core.values():
            nn.init.kaiming_uniform_(core, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        shared = self._shared[0]
        small = F.linear(x, shared.into)
        added = [
            F.linear(F.linear(small, self.core[part]), shared.out) if part in TARGETS else torch.zeros_like(x)
            for part in PARTS
        ]
        # [..., C] each -> [..., groups, 3 C / groups] -> [..., 3 C], the order in which the layer's rows lie
        beside = torch.cat([one.unflatten(-1, (self.groups, -1)) for one in added], dim=-1)
        return super().forward(x) + beside.flatten(-2)


def add_factors(encoder: nn.Module, rank: int) -> list[str]:
    """Put factor-tuning on every attention of an image encoder and return the names of the new parameters.

    Layers of one width share a pair of factors (all of a ViT, those of a stage of TinyViT). The encoder computes bit
    for bit the same until they are trained; all other parameters keep their names.

    Raises:
        InputError: a rank that can't be, no attention or one of unknown layout, or adapters already in; the encoder is
            unchanged.
    """
    problems = []
    found = list(fused_layers(encoder))
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        problems.append(f"fact: rank is {rank!r}, wanted a whole number above 0")
    if not found:
        problems.append(f"fact: found no attention with a fused qkv in {type(encoder).__name__}, wanted a SAM encoder")
    for name, attention, linear in found:
        if type(linear) is not nn.Linear:
            problems.append(f"fact: found {type(linear).__name__} at {name}, wanted a plain layer")
        elif head_groups(attention) is None:
            kind = type(attention).__name__
            problems.append(f"fact: {name} is of {kind}; wanted an attention of SAM ViT, TinyViT or EfficientSAM")
    if problems:
        raise InputError(problems)
    shared: dict[int, SharedFactors] = {}
    for _, attention, linear in found:
        width = linear.in_features
        if width not in shared:
            shared[width] = SharedFactors(linear.weight, width, rank)
            encoder.add_module(f"fact_{width}", shared[width])
        attention.qkv = FactorLinear(linear, head_groups(attention), shared[width], rank)
    return factor_parameters(encoder)


def factor_parameters(module: nn.Module) -> list[str]:
    """Return the names of all such adapters' parameters in `module`, of any depth; none where there are none."""
    names = []
    for prefix, part in module.named_modules():
        if isinstance(part, SharedFactors):
            names += [f"{prefix}.into".removeprefix("."), f"{prefix}.out".removeprefix(".")]
        elif isinstance(part, FactorLinear):
            names += [f"{prefix}.core.{name}".removeprefix(".") for name in part.core]
    return names
