"""A tiny ADA-SAM and slices for it: a bright disc (class 1) and a dark one (class 2), drawn on the first slices."""

from __future__ import annotations

import torch
from torch import Tensor

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

AdaSam = import_bundle("ada_sam", "slice_model.ada_sam").AdaSam
SIZE = (32, 32)
# which classes are on the slices, and where: centre row, column and radius; the last slice is empty
SLICES = (
    {1: (12, 10, 7), 2: (22, 23, 6)},
    {1: (18, 20, 8)},
    {2: (10, 21, 7)},
    {1: (20, 9, 6), 2: (9, 20, 7)},
    {1: (15, 12, 7), 2: (16, 25, 5)},
    {},
)


def make_network(seed: int = 0, lora_rank: int = 0, **options) -> AdaSam:
    """Return an ADA-SAM of two classes on slices of 32 x 32 with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = tiny_sam(seed=seed, attention=lora_rank > 0)
        return AdaSam(sam, SIZE, 2, hidden=16, lora_rank=lora_rank, amp=False, **options)


def make_slices(count: int = len(SLICES)) -> tuple[Tensor, Tensor]:
    """Return images [N, 1, 32, 32] in [0, 1] and masks [N, 32, 32] int64."""
    noise = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(*[torch.arange(n) + 0.5 for n in SIZE], indexing="ij")
    masks = torch.zeros(count, *SIZE, dtype=torch.long)
    for mask, discs in zip(masks, SLICES, strict=False):
        for value, (row, column, radius) in discs.items():
            mask[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = value
    levels = torch.tensor([0.5, 0.9, 0.1])[masks]
    return (levels + 0.03 * torch.randn(masks.shape, generator=noise)).clamp(0, 1)[:, None], masks


def make_batch(network: AdaSam, annotated: int = 3, count: int = len(SLICES), embed: bool = True) -> dict[str, Tensor]:
    """Return a collated batch of which the first `annotated` slices have a mask; -1 on the others."""
    images, masks = make_slices(count)
    known = torch.arange(count) < annotated
    batch = {
        "case": [f"case{i}" for i in range(count)],
        "image": images,
        "presence": torch.stack([(masks == p).flatten(1).any(1) for p in (1, 2)], dim=1).float(),
        "mask": masks.masked_fill(~known[:, None, None], -1),
        "annotated": known.float(),
    }
    if embed:
        with torch.no_grad():
            batch["embedding"] = network.encode(images)
    return batch
