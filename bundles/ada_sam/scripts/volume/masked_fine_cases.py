"""What the fine network learns from where some slices have masks: these, and ADA-SAM's pseudo labels between them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..common.fine.cases import UNKNOWN, FineCases
from ..common.levels.regions import Box
from ..common.slices.masked_slices import AddLabelSlicesd

if TYPE_CHECKING:
    from ..cohort import FewSlicesCohort


class MaskedFineCases(FineCases):
    """`FineCases` of which ADA-SAM's pseudo labels, which are as fine as SAM sees, stand for the labels, but for masks.

    A slice with a mask is one slice of fine voxels, the nearest one; of the masks no other slice counts, as everywhere.

    Args:
        labeller: has made the pseudo labels, see `PseudoLabeller.on_slices`.
    """

    cohort: FewSlicesCohort
    known = "masks of slices"

    def __init__(self, labeller: Any, **options: Any) -> None:
        super().__init__(**options)
        self.labeller = labeller

    def teach(self, case: Mapping[str, Any], image: MetaTensor) -> tuple[Tensor, Box | None]:
        target, seen = self.labeller.on_slices(case["case"])
        label, box = self.from_grid(target, seen, image)
        if case["case"] not in self.cohort.label_slices:
            return label, box
        masks = self.truth(case, image)
        if box is None:  # what ADA-SAM misses may be drawn
            box = self.around(masks.masked_fill(masks == UNKNOWN, 0))
            if box is None:
                return label, None
            label = torch.full((1, *(s.stop - s.start for s in box)), UNKNOWN, dtype=torch.uint8)
        masks = masks[(slice(None), *box)]
        return torch.where(masks == UNKNOWN, label, masks), box

    def with_truth(self) -> list[Mapping[str, Any]]:
        slices = self.cohort.label_slices
        return sorted((case for case in self.wanted() if case["case"] in slices), key=lambda c: -len(slices[c["case"]]))

    def one_piece(self) -> list[bool]:
        """Return for each class whether it is one piece on the slices that have masks."""
        return self.cohort.one_piece

    def truth(self, case: Mapping[str, Any], image: MetaTensor) -> Tensor:
        read = AddLabelSlicesd("image", self.cohort.grid.label_values, self.cohort.label_slices)
        item: dict[Hashable, Any] = {"image": image}
        found = read(item | self.masked(case["case"]))
        return found["label"].to(torch.uint8).masked_fill_(found["annotated"] == 0, UNKNOWN)

    def masked(self, name: str) -> dict[Hashable, Any]:
        """Return what `AddLabelSlicesd` reads of a case with masks."""
        found = self.cohort.masked_case(name)
        return {key: found[key] for key in ("case", "label", "slice_labels")}
