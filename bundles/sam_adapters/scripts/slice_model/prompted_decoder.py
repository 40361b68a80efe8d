"""SAM's own mask decoder, asked about each structure by its prompt."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..common.sam.build import SamModel
from .answer import Answer, with_background
from .prompts import Prompts

NOT_ASKED = -10.0  # logit of a structure that was not asked about


class PromptedDecoder(nn.Module):
    """One pass for each structure and slice, each with its prompt.

    Args:
        sam: whose decoder it is a copy of.
        frozen: it stays as it is, and gradients reach the prompts through it; else it learns.
        at_once: prompts answered together.

    forward: features [N, C, h, w], position code [1, C, h, w], `Prompts` -> `Answer`, the background's logits 0.
    """

    def __init__(self, sam: SamModel, frozen: bool = False, at_once: int = 64) -> None:
        super().__init__()
        self.decoder, self.at_once = copy.deepcopy(sam.mask_decoder), at_once
        self.decoder.requires_grad_(not frozen)
        # what only other masks and their quality need
        for unused in (self.decoder.iou_prediction_head, *self.decoder.output_hypernetworks_mlps[1:]):
            unused.requires_grad_(False)

    def forward(self, features: Tensor, position: Tensor, prompts: Prompts) -> Answer:
        slices, structures = prompts.asked.nonzero(as_tuple=True)
        side = 4 * features.shape[2]
        logits = features.new_full((*prompts.asked.shape, side, side), NOT_ASKED)
        for start in range(0, len(slices), self.at_once):
            n, p = slices[start : start + self.at_once], structures[start : start + self.at_once]
            # the decoder repeats one image for all prompts; the images of several come in by the sum it makes first
            none = torch.zeros_like(features[:1])
            image = features[n] + prompts.dense[n, p]
            found, _ = self.decoder(none, position, prompts.sparse[n, p], image, multimask_output=False)
            logits = logits.index_put((n, p), found[:, 0].to(logits))
        return Answer(with_background(logits), prompts.first, prompts.patches)
