"""What the second level of RRL-MedSAM learns from: the atlases, the trained first level, and pseudo labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from .common.atlas.labeller import AtlasLabeller
from .common.fine.cases import FineCases
from .common.levels.regions import Box
from .common.pseudo_labels.opinions import agreement


class RegisteredFineCases(FineCases):
    """`FineCases` in which the pseudo labels have a say where the first level has not learnt them.

    Where the trained first level agrees with a case's pseudo label it stands for the label, as in every bundle: it has
    taken out what single registrations get wrong. Where it doesn't, as with many small organs after a short training,
    the pseudo label does if it is one of those that were learnt from; any other such case is left out.

    Args:
        labeller: has made the pseudo labels of the last round.
    """

    fewest = 1  # registration takes the atlas's pieces for everybody's

    def __init__(self, labeller: AtlasLabeller, **options: Any) -> None:
        super().__init__(**options)
        self.labeller = labeller

    def teach(self, case: Mapping[str, Any], image: MetaTensor) -> tuple[Tensor, Box | None]:
        if "label" in case:
            return super().teach(case, image)
        labeller = self.labeller
        order = [item["case"] for item in labeller.cohort.images]
        seen = labeller.images[order.index(case["case"])]["image"]
        pseudo = labeller.labels.load(case["case"])["label"]
        found = labeller.predict(labeller.view({"image": seen})[0]).cpu()
        if agreement(found, pseudo, labeller.present) >= labeller.min_agreement:
            return super().teach(case, image)
        nothing = torch.zeros((1, 0, 0, 0), dtype=torch.uint8)
        return self.from_grid(pseudo, seen, image) if case["case"] in labeller.selected else (nothing, None)
