"""What the fine network learns from: true labels, and the adapted SAM's masks, which are as fine as SAM sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import MetaTensor
from torch import Tensor

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

    of = FineCases.labels_alone  # a plain control has no pseudo labels

    def teach(self, case: Mapping[str, Any], image: MetaTensor) -> tuple[Tensor, Box | None]:
        if "label" in case:
            return super().teach(case, image)
        target, seen = self.labeller.on_slices(case["case"])
        return self.from_grid(target, seen, image)
