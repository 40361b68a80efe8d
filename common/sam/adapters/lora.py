"""Low-rank adapters on the queries and values of SAM's image encoders: added, folded into the weights, named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ..members.segment_anything_import import load_segment_anything

PARTS = ("q", "k", "v")


# Not peft: since it dropped MergedLinear (huggingface/peft #852) an adapter on a fused qkv has one A for all three,
# reaches k too, knows no layout per head, and renames the base weights. Nor torch's parametrize, which renames as well.
class LowRankLinear(nn.Linear):
    """A fused projection to q, k and v, each of the targets with a low-rank term of its own.

    For a target p: p + alpha / rank * B_p A_p x, without bias or dropout (Hu et al., LoRA, 2021). The weight and bias
    of the layer that it takes the place of stay the same parameters under the same names; A_p is `down.p` [rank, C],
    random, and B_p is `up.p` [C, rank], zero.

    Args:
        linear: C -> 3 C channels.
        groups: heads where q, k and v lie side by side inside each head, 1 where all of q comes before all of k.
        rank, alpha, targets: as in `add_lora`.
    """

    def __init__(self, linear: nn.Linear, groups: int, rank: int, alpha: float, targets: Sequence[str]) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.groups, self.rank, self.scale = groups, rank, alpha / rank
        channels, weight = linear.in_features, linear.weight
        self.down = nn.ParameterDict({part: weight.new_empty(rank, channels) for part in targets})
        self.up = nn.ParameterDict({part: weight.new_zeros(channels, rank) for part in targets})
        for down in self.down.values():
            # by width, so that one learning rate suits the 128 channels of a TinyViT and the 1280 of a ViT-H
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return up [3 C, n rank] and down [n rank, C] of the n targets together; their product adds to the weight."""
        ups, last = {}, len(self.up) - 1
        for column, (part, up) in enumerate(self.up.items()):
            ups[part] = F.pad(up, (column * self.rank, (last - column) * self.rank))
        nothing = torch.zeros_like(next(iter(ups.values())))
        up = torch.stack([ups.get(part, nothing) for part in PARTS])
        # [3, C, n rank] -> [groups, 3, C / groups, n rank], the order in which the layer's rows lie
        up = up.unflatten(1, (self.groups, -1)).transpose(0, 1).flatten(0, 2)
        return self.scale * up, torch.cat(list(self.down.values()))

    def merged_weight(self) -> Tensor:
        """Return the weight [3 C, C] of a plain layer that computes the same."""
        up, down = self.factors()
        return self.weight + up @ down

    def forward(self, x: Tensor) -> Tensor:
        up, down = self.factors()
        return super().forward(x) + F.linear(F.linear(x, down), up)


def add_lora(
    encoder: nn.Module, rank: int = 8, alpha: float | None = None, targets: Sequence[str] = ("q", "v")
) -> list[str]:
    """Put low-rank adapters into every attention of an image encoder and return the names of the new parameters.

    The encoder computes bit for bit the same until they are trained. Only they are new: the names of all other
    parameters, and whether these need a gradient, stay as they were. A is drawn from torch's global generator.

    Args:
        encoder: a SAM ViT, TinyViT, EfficientSAM's ViT or SAMUS (whose own cross-attention adapters stay as they are).
        rank: of each adapter; 8 on q and v of SAM ViT-B are 294,912 parameters.
        alpha: the adapters' output is scaled by alpha / rank; None is no scaling.
        targets: of "q", "k" and "v".

    Raises:
        InputError: a rank, alpha or target that can't be; no attention, one of unknown layout, or adapters already in;
            the encoder is unchanged.
    """
    problems = _setting_problems(rank, alpha, targets)
    found = list(fused_layers(encoder))
    if not found:
        problems.append(f"lora: found no attention with a fused qkv in {type(encoder).__name__}, wanted a SAM encoder")
    for name, attention, linear in found:
        if isinstance(linear, LowRankLinear):
            problems.append(f"lora: found adapters of rank {linear.rank} at {name}, wanted a plain layer")
        elif head_groups(attention) is None:
            kind = type(attention).__name__
            problems.append(f"lora: {name} is of {kind}; wanted an attention of SAM ViT, TinyViT or EfficientSAM")
        elif not problems and rank > linear.in_features:
            problems.append(f"lora: rank is {rank}, wanted at most the {linear.in_features} channels of {name}")
    if problems:
        raise InputError(problems)
    parts = [part for part in PARTS if part in targets]
    for _, attention, linear in found:
        attention.qkv = LowRankLinear(linear, head_groups(attention), rank, rank if alpha is None else alpha, parts)
    return lora_parameters(encoder)


def folded_lora(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights, by their names in `module`, of plain layers that compute what those with adapters do."""
    layers = lora_layers(module)
    return {f"{name}.weight".removeprefix("."): layer.merged_weight() for name, layer in layers.items()}


def lora_layers(module: nn.Module) -> dict[str, LowRankLinear]:
    """Return the layers that carry adapters, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LowRankLinear)}


def lora_parameters(module: nn.Module) -> list[str]:
    """Return the names of all adapters' parameters in `module`, of any depth; none where there are no adapters."""
    names = []
    for prefix, layer in lora_layers(module).items():
        for kind, parts in (("down", layer.down), ("up", layer.up)):
            names += [f"{prefix}.{kind}.{part}".removeprefix(".") for part in parts]
    return names


def fused_layers(encoder: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Linear]]:
    """Yield the name of each fused projection, the attention that it belongs to, and the layer."""
    for name, module in encoder.named_modules():
        if isinstance(getattr(module, "qkv", None), nn.Linear):
            yield f"{name}.qkv".removeprefix("."), module, module.qkv


def head_groups(attention: nn.Module) -> int | None:
    """Return `groups` of a known attention, None for others: the shape of a layer doesn't tell how its rows lie."""
    if isinstance(attention, load_segment_anything().image_encoder.Attention):
        return 1
    return getattr(attention, "qkv_groups", None)


def _setting_problems(rank: int, alpha: float | None, targets: Sequence[str]) -> list[str]:
    problems = []
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        problems.append(f"lora: rank is {rank!r}, wanted a whole number above 0")
    if alpha is not None and not (isinstance(alpha, (int, float)) and 0 < alpha < math.inf):
        problems.append(f"lora: alpha is {alpha!r}, wanted a number above 0, or null for no scaling")
    if isinstance(targets, str) or not targets or not set(targets) <= set(PARTS):
        problems.append(f"lora: targets are {targets!r}, wanted a list of some of q, k and v")
    return problems
