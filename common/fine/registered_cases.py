"""What the fine network learns from where labels are registered: those that there are, and the pseudo labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..levels.regions import Box
from ..pseudo_labels.opinions import agreement
from .cases import FineCases


class RegisteredFineCases(FineCases):
    """`FineCases` in which the pseudo labels that were learnt from stand for the labels, on voxels finer than the grid.

    Any other case is taught what the trained first level says, if that agrees with its pseudo label, else nothing.

    Args:
        labeller: has made the pseudo labels of the last round (`AtlasLabeller`).
    """

    def __init__(self, labeller: Any, **options: Any) -> None:
        super().__init__(**options)
        self.labeller = labeller
        if self.unlabeled:
            self.fewest = 1  # registration takes a label's pieces for everybody's

    of = FineCases.labels_alone  # a plain control has no pseudo labels

    def teach(self, case: Mapping[str, Any], image: MetaTensor) -> tuple[Tensor, Box | None]:
        if "label" in case:
            return super().teach(case, image)
        labeller, name = self.labeller, case["case"]
        order = [item["case"] for item in labeller.cohort.images]
        item = labeller.images[order.index(name)]
        if name in labeller.selected:
            pseudo, seen = labeller.finest(item)
            return self.from_grid(pseudo, seen, image)
        if labeller.network is not None:
            found = labeller.predict(labeller.view(item)[0]).cpu()
            if agreement(found, labeller.labels.load(name)["label"], labeller.present) >= labeller.min_agreement:
                return self.guess(image)
        return torch.zeros((1, 0, 0, 0), dtype=torch.uint8), None
