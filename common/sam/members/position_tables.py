"""SAM ViT's position tables at another image size than the published one."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


def resize_position_tables(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Bring the position tables of a checkpoint to the token grid of `model.image_encoder`; the rest passes unchanged.

    `pos_embed` [1, n, n, C] bilinear, `rel_pos_h` and `rel_pos_w` [2n - 1, C] of the blocks with global attention
    linear, both with align_corners False and no antialiasing. Tables of window blocks belong to the window and are
    never resized. A table that differs in anything but its length is left as it is, for the strict loading to name.
    """
    result = dict(tensors)
    wanted = model.state_dict()
    for name in _resizable(model.image_encoder):
        value, target = tensors.get(name), wanted[name].shape
        if value is None or value.shape == target or value.ndim != len(target) or value.shape[-1] != target[-1]:
            continue
        if value.ndim == 4:
            table = F.interpolate(value.permute(0, 3, 1, 2), target[1:3], mode="bilinear", align_corners=False)
            result[name] = table.permute(0, 2, 3, 1).contiguous()
        else:
            table = F.interpolate(value.T[None], target[0], mode="linear", align_corners=False)
            result[name] = table[0].T.contiguous()
    return result


def _resizable(encoder: nn.Module) -> list[str]:
    """Return the checkpoint names of the tables that depend on the image size; none for TinyViT."""
    if getattr(encoder, "pos_embed", None) is None:
        return []
    global_blocks = [index for index, block in enumerate(encoder.blocks) if block.window_size == 0]
    tables = [f"blocks.{index}.attn.rel_pos_{axis}" for index in global_blocks for axis in "hw"]
    return [f"image_encoder.{name}" for name in ("pos_embed", *tables)]
