"""Evaluation of the specialist beside the same cleaned without any SAM, and beside the generalists' own masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .common.imaging.solid import smooth_and_keep_largest
from .common.scoring.compared import AddComparedd, Compared
from .common.tensors import plain
from .generalists.consultation import combine
from .generalists.panel import GeneralistPanel

CLEANED = Compared("cleaned", "the same, cleaned", "cleaned dice", hd95="cleaned hd95")


def generalist_column(title: str) -> Compared:
    """Return the column of a generalist with a kind of prompt, by its title in the panel."""
    return Compared(title, title, f"{title} dice")


class AddGeneralistsd(AddComparedd):
    """Add the control, which is the prediction smoothed and with its largest components only, and what each generalist
    that is learnt from makes of the prediction, with each kind of prompt.

    Who that is may not be known before the trial, which comes long after this is built: it is asked for at each case.
    Only cases whose truth is known pass here; the answers are compared with it, and nothing learns from them.

    Args:
        smoothing: of the control, voxels.
    """

    def __init__(self, panel: GeneralistPanel, label_values: Sequence[int], smoothing: float = 1.0) -> None:
        super().__init__(label_values)
        self.panel, self.smoothing = panel, smoothing

    @torch.no_grad()
    def opinions(self, data: Mapping[str, Any]) -> dict[Compared | str, Tensor]:
        probabilities = plain(data["pred"]).float()
        found: dict[Compared | str, Tensor] = {CLEANED: smooth_and_keep_largest(probabilities, self.smoothing)}
        compared = self.panel.compared
        if compared:
            probabilities = probabilities.to(self.panel.device)
            embeddings = self.panel.embed(plain(data["image"]).float())
            for title, (number, generalist) in compared.items():
                said = generalist.answer(embeddings[number].to(self.panel.device), probabilities)
                found[generalist_column(title)] = combine([said], probabilities)[0].cpu()
        return found

    def shown_maps(self) -> dict[str, str]:
        """Return the maps of the report's pictures, title -> key: the prediction, a generalist's answer, the truth."""
        asked = {title: title for title in list(self.panel.compared)[:1]}
        return {"prediction": "pred", **asked, "truth": "label"}
