"""A network for slices that sees what its embedding says, and two small structures for it to see."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.bundle.path import import_bundle

ada_sam = import_bundle("ada_sam", "slice_model.ada_sam")
SIZE = (16, 12, 10)
LABELS = {0: "background", 1: "front", 4: "back"}
BOX_RULES = {"threshold": 0.4, "share": 0.2, "padding": 0.05}


class SeeingNetwork(nn.Module):
    """Stands for an `AdaSam` of two classes whose embeddings are the structures' maps on the slice's own grid.

    It answers with +4 where any map is above 0.5 and the prompt's box is, else -4; a mask prompt adds a tenth of
    itself there. `prompts` keeps what it was asked.
    """

    def __init__(self, slice_size: tuple[int, int] = SIZE[:2], mask_prompt: bool = True) -> None:
        super().__init__()
        self.slice_size, self.classes, self.mask_prompt, self.feedback = slice_size, 2, mask_prompt, None
        self.boxes_by, self.cell, self.cam_range, self.patch_map = BOX_RULES, 1.0, "running", None
        self.dropout = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("extents", torch.zeros(2, 2))
        self.prompts: list[dict[str, Tensor | None]] = []

    @property
    def whole_slice(self) -> Tensor:
        return torch.tensor([0.0, 0.0, *self.slice_size])

    def adapted_tensors(self) -> list[str]:
        return ["scale"]

    def look(self, embedding: Tensor) -> Any:
        assert not self.dropout.training and not torch.is_grad_enabled()
        return ada_sam.Sight(8 * embedding.amax((2, 3)) - 4, embedding, embedding.clamp(0, 1))

    def normalise(self, maps: Tensor, classes: list[int]) -> Tensor:
        return maps.clamp(0, 1)

    def ask(self, embedding: Tensor, boxes: Tensor, masks: Tensor | None) -> Tensor:
        assert not self.dropout.training and not torch.is_grad_enabled()
        self.prompts.append({"embedding": embedding, "boxes": boxes, "masks": masks})
        rows, columns = (torch.arange(n) + 0.5 for n in self.slice_size)
        first_row, first_column, last_row, last_column = boxes[..., None, None].unbind(1)
        inside = (rows[:, None] > first_row) & (rows[:, None] < last_row)
        inside = inside & (columns > first_column) & (columns < last_column)
        logits = torch.where((embedding > 0.5).any(1) & inside, 4.0, -4.0)
        return logits if masks is None else logits + 0.1 * masks


def structures(size: tuple[int, int, int] = SIZE) -> Tensor:
    """Return bool [2, H, W, D]: a tube through slices 2 to 7 of the last axis, a smaller one through 4 to 8."""
    h, w, d = torch.meshgrid(*[torch.arange(n) for n in size], indexing="ij")
    front = ((h - 5) ** 2 + (w - 4) ** 2 < 10) & (d >= 2) & (d <= 7)
    back = ((h - 11) ** 2 + (w - 8) ** 2 < 8) & (d >= 4) & (d <= 8)
    return torch.stack([front, back])


def embeddings_of(found: Tensor, slice_axis: int = 2) -> Tensor:
    """Return what a `SeeingNetwork` reads: [n, P, rows, columns] of [P, H, W, D]."""
    return found.float().movedim(slice_axis + 1, 0)


def label_map(found: Tensor) -> Tensor:
    """[P, H, W, D] -> class index [H, W, D]"""
    index = torch.arange(1, len(found) + 1).view(-1, 1, 1, 1)
    return (found * index).amax(0)


def one_hot(found: Tensor) -> Tensor:
    """[P, H, W, D] -> [K, H, W, D]"""
    return F.one_hot(label_map(found), len(found) + 1).movedim(-1, 0).float()


def dice(first: Tensor, second: Tensor) -> float:
    first, second = first > 0.5, second > 0.5
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))
