"""What the fine network learns from: true labels, and the adapted SAM's masks, which are as fine as SAM sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import MetaTensor
from torch import Tensor, nn

from .common.fine.cases import FineCases
from .common.levels.regions import Box


class SlicedFineCases(FineCases):
    """`FineCases` in which the pseudo labels of the slices stand for the labels of cases that have none.

    Args:
        labeller: has made the pseudo labels, see `SliceLabeller.on_slices`.
    """

    def __init__(self, labeller: Any, **options: Any) -> None:
        super().__init__(**options)
        self.labeller = labeller

    def of(self, network: nn.Module, name: str) -> FineCases:
        """Return the labels that are the truth alone, for a plain control's coarse network; nothing is made yet."""
        folder = f"{self.folder}_{name}"
        return FineCases(self.cohort, self.preprocessing, network, folder, False, self.device, self.resume)

    def teach(self, case: Mapping[str, Any], image: MetaTensor) -> tuple[Tensor, Box | None]:
        if "label" in case:
            return super().teach(case, image)
        target, seen = self.labeller.on_slices(case["case"])
        return self.from_grid(target, seen, image)
