"""What the second level of RRL-MedSAM learns from: the atlases, the trained first level, and pseudo labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from .common.atlas.labeller import AtlasLabeller
from .common.fine.cases import SURE, UNKNOWN, FineCases
from .common.grid.field_of_view import filled_box
from .common.grid.native import sample_probabilities
from .common.levels.regions import Box
from .common.pseudo_labels.opinions import agreement
from .common.tensors import plain


class RegisteredFineCases(FineCases):
    """`FineCases` in which the pseudo labels have a say where the first level has not learnt them.

    Where the trained first level agrees with a case's pseudo label it stands for the label, as in every bundle: it has
    taken out what single registrations get wrong. Where it doesn't, as with many small organs after a short training,
    the pseudo label does if it is one of those that were learnt from; any other such case is left out.

    Args:
        labeller: has made the pseudo labels of the last round.
    """

    seen = 1  # registration takes the atlas's pieces for everybody's

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
        return self.registered(pseudo, seen, image) if case["case"] in labeller.selected else (nothing, None)

    def registered(self, pseudo: Tensor, seen: MetaTensor, image: MetaTensor) -> tuple[Tensor, Box | None]:
        """Return a pseudo label on the image's voxels in a box, [1, h, w, d] uint8 with 255 where it is unsure.

        Args:
            pseudo: [K, H, W, D] on the first level's grid. seen: that image. image: the whole scan on fine voxels.
        """
        found = filled_box(pseudo.argmax(0) > 0)
        if found is None:
            return torch.zeros((1, 0, 0, 0), dtype=torch.uint8), None
        to_grid = torch.linalg.inv(plain(seen.affine).double()) @ plain(image.affine).double()
        box = self.box_on(tuple(found), torch.linalg.inv(to_grid), image.shape[1:])
        sure, label = sample_probabilities(pseudo, to_grid, box).max(0)
        return label.to(torch.uint8).masked_fill_(sure < SURE, UNKNOWN)[None], box

    def box_on(self, found: Box, to_image: Tensor, size: Sequence[int]) -> Box:
        """Return a box of grid voxels as one of an image's voxels, with half a window around.

        Args:
            to_image: affine [4, 4] from the grid's voxels to the image's. size: of the image.
        """
        corners = torch.tensor([[*corner, 1.0] for corner in product(*((s.start, s.stop - 1) for s in found))]).double()
        placed = (to_image @ corners.T)[:3]
        sides = zip(
            placed.amin(1).tolist(), placed.amax(1).tolist(), self.cohort.grid.finest.spatial_size, size, strict=True
        )
        return tuple(slice(max(int(a) - w // 2, 0), min(int(b) + 1 + w // 2, int(n))) for a, b, w, n in sides)
