"""The control of a first label: the mask of the nearest labelled slice, as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.scoring.compared import AddComparedd, Compared
from ..common.tensors import plain
from .network import ZeroStep

COPIED = Compared(
    "copied", "nearest slice, copied", "copied dice", hd95="copied hd95",
    control="neither is worth much here: register the labelled scan (rrl_medsam), or train",
)  # fmt: skip


class AddCopiedd(AddComparedd):
    """Score the nearest labelled slices' masks, copied, beside a first label.

    Args:
        body: makes both.
        device: of the body.
    """

    def __init__(self, body: ZeroStep, label_values: Sequence[int], device: str | torch.device = "cpu") -> None:
        super().__init__(label_values)
        self.body, self.device = body, torch.device(device)

    @torch.no_grad()
    def opinions(self, data: Mapping[str, Any]) -> dict[Compared | str, Tensor]:
        return {COPIED: self.body.copied(plain(data["image"]).float().to(self.device)).cpu()}
