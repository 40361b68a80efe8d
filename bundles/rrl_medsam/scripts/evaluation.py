"""Evaluation of the two branches side by side: the segmentation, and the label propagated by registration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .common.atlas.labeller import AtlasLabeller
from .common.atlas.propagation import propagate
from .common.pseudo_labels.refine import refine_by_intensity
from .common.scoring.compared import AddComparedd, Compared
from .common.tensors import plain

PROPAGATION = Compared(
    "propagation", "label propagation", "propagated_dice",
    control="the atlas may be unlike the other scans: label a typical one, name it by --atlas",
)  # fmt: skip


class AddPropagatedd(AddComparedd):
    """Add the atlas label brought to the image by registration, and the folded voxels (%) as `folding_percent`.

    Instance-optimised registration where the labeller has steps for it, else the registration network's. Where the
    labeller has `guided_steps`, such steps follow in which the prediction steers the registration.

    Args:
        refine_intensity: weight of `refine_by_intensity`, as the prediction is refined with; 0 for off.
    """

    def __init__(self, labeller: AtlasLabeller, label_values: Sequence[int], refine_intensity: float = 0.0) -> None:
        super().__init__(label_values)
        self.labeller, self.refine_intensity = labeller, refine_intensity

    def opinions(self, data: Mapping[str, Any]) -> dict[Compared | str, Any]:
        prediction = plain(data["pred"]).float().to(self.labeller.device)
        found = propagate(self.labeller, data["image"], prediction)
        image = self.labeller.grey(plain(found.image).float().to(self.labeller.device))
        label = refine_by_intensity(image, found.label, self.refine_intensity)
        return {PROPAGATION: (label, found.image), "folding_percent": found.folding}
