"""A kind of adapters beside LoRA, as a newcomer would write it: one file, for one line in the registry."""

from __future__ import annotations

from torch import Tensor, nn

from common.sam.adapters.registry import Adapter


class GainLinear(nn.Linear):
    """A linear layer whose outputs are scaled by 1 + gain, in `rank` groups; the gains are 0 at first."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.gain = nn.Parameter(linear.weight.new_zeros(rank))

    def scale(self) -> Tensor:
        return 1 + self.gain.repeat_interleave(self.out_features // len(self.gain))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale()


def add_gains(encoder: nn.Module, rank: int) -> list[str]:
    for block in encoder.blocks:
        block.mlp.lin2 = GainLinear(block.mlp.lin2, rank)
    return gain_parameters(encoder)


def gain_parameters(module: nn.Module) -> list[str]:
    return [f"{name}.gain" for name, layer in module.named_modules() if isinstance(layer, GainLinear)]


def folded_gains(module: nn.Module) -> dict[str, Tensor]:
    tensors = {}
    for name, layer in module.named_modules():
        if isinstance(layer, GainLinear):
            tensors[f"{name}.weight"] = layer.weight * layer.scale()[:, None]
            tensors[f"{name}.bias"] = layer.bias * layer.scale()
    return tensors


FOLDED = Adapter(add_gains, gain_parameters, folded_gains)
KEPT = Adapter(add_gains, gain_parameters, None)
