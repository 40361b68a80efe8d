"""A tiny ADA-SAM that answers for whole volumes."""

from __future__ import annotations

import torch
from torch import Tensor

from common.grid.grid import Grid
from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

module = import_bundle("ada_sam", "network")


AdaSam = import_bundle("ada_sam", "slice_model.ada_sam").AdaSam


SIZE, VALUES = (24, 16, 6), (0, 1, 4)
GRID = Grid(SIZE, (1, 1, 2), VALUES)


def volume(seed: int = 0, axis: int = 2, attention: bool = False, largest_component=None, **options) -> torch.nn.Module:
    """Build the network with random weights that see both classes everywhere; with adapters its encoder is a ViT."""
    torch.manual_seed(seed)
    attention = attention or options.get("lora_rank", 0) > 0
    network = AdaSam(
        tiny_sam(32, attention=attention, seed=seed), module.slice_size(SIZE, axis), 2, hidden=8, **options
    )
    with torch.no_grad():
        network.head.last.bias.fill_(2.0)
        for name, parameter in network.named_parameters():
            if ".up." in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return module.AdaSamVolume(network, axis, GRID, largest_component=largest_component).eval()


def image(batch: int = 1) -> Tensor:
    return torch.rand(batch, 1, *SIZE, generator=torch.Generator().manual_seed(1))
