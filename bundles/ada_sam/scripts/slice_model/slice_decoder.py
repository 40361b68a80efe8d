"""A SAM's answers to prompts as logits on the slice's own grid, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..common.sam.build import SamModel
from ..common.sam.features.volume import crop_padding
from ..common.sam.patch_map import PatchMap
from ..common.sam.prompted_slices import PromptedSlices


class SliceDecoder(PromptedSlices):
    """`PromptedSlices` for learning: gradients reach weights, embeddings and mask prompts; logits come back.

    Args:
        sam: of `PromptedSlices`.
        patch_map: that makes the dense prompts of patches; None where there are none.
        options: of `PromptedSlices`.
    """

    def __init__(self, sam: SamModel, patch_map: PatchMap | None = None, **options: Any) -> None:
        super().__init__(sam, **options)
        self.patch_map = patch_map

    def logits(
        self,
        embedding: Tensor,
        owners: Tensor,
        size: Sequence[int],
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """Answer M prompts with logits [M, rows, columns] float32.

        Args:
            embedding: [N, C, h, w], padding included.
            owners: [M] int64, which embedding a prompt is of.
            size: rows and columns of the slices.
            boxes: [M, 4] in voxels.
            masks: logits [M, rows, columns], or bool [M, h / 2, w / 2] of the patch map.
        """
        rows, columns = (int(n) for n in size)
        answers = [embedding.new_zeros((0, rows, columns), dtype=torch.float32)]
        for start in range(0, len(owners), self.batch_size):
            part = slice(start, start + self.batch_size)
            prompt = {}
            if boxes is not None:
                prompt["boxes"] = self.to_pixels(boxes[part].unflatten(1, (2, 2)), (rows, columns)).flatten(1)
            if masks is not None and masks.dtype == torch.bool:
                prompt["dense"] = self.patch_map.prompt(masks[part, None].to(self.device), embedding.shape[2:])[:, 0]
            elif masks is not None:
                prompt["masks"] = self._to_mask_input(masks[part].to(self.device).float())
            low = self.sam.decode(embedding[owners[part]], **prompt, amp=self.amp)  # [m, 1, s, s]
            answers.append(self._to_grid(low, (rows, columns))[:, 0])
        return torch.cat(answers)

    def _to_grid(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits [m, 1, s, s] of the padded square to logits [m, 1, rows, columns] of the slice.

        Where the slice is finer, logits are interpolated; where it is coarser, probabilities are averaged.
        """
        side, resized = self.sam.preprocessing.image_size, self.sam.preprocessing.resized_size(*size)
        logits = crop_padding(logits, (resized[0] / side, resized[1] / side))
        finer = tuple(max(have, want) for have, want in zip(logits.shape[-2:], size, strict=True))
        if tuple(logits.shape[-2:]) != finer:
            logits = F.interpolate(logits, finer, mode="bilinear", align_corners=False)
        if finer == size:
            return logits
        # shares inside and outside are averaged apart, so that neither rounds to 1, where gradients would end
        inside, outside = (
            F.interpolate(signed.sigmoid(), size, mode="bilinear", align_corners=False, antialias=True)
            for signed in (logits, -logits)
        )
        tiny = torch.finfo(torch.float32).tiny
        return inside.clamp_min(tiny).log() - outside.clamp_min(tiny).log()
