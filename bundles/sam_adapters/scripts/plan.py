"""The stages before the light network learns."""

from __future__ import annotations

from functools import partial
from typing import Any

from .cohort import SlicedCohort
from .common.costs.pieces import pieces
from .common.run.run import Run
from .common.training.plan import Plan
from .common.training.stage import Stage
from .control import PlainControl
from .labeller import SliceLabeller
from .learning.images import GridImages
from .learning.slabs import SlabDataset
from .slice_model.adapted_sam import AdaptedSam
from .slice_model.hierarchical_decoder import HierarchicalDecoder


class AdapterPlan(Plan):
    """SAM's features of the labelled slices, the parts that learn behind them, and masks of the unlabelled volumes.

    Args:
        run, cohort: see `Plan`.
        images: of the cohort on its grid, loaded here. slices: the same on the grid of the slices.
        slabs: what the parts learn from.
        network: the frozen SAM with its parts.
        adapt: trainer of the parts.
        labeller: of the unlabelled volumes.
        control: see `Plan`.
    """

    def __init__(
        self,
        run: Run,
        cohort: SlicedCohort,
        images: GridImages,
        slices: GridImages,
        slabs: SlabDataset,
        network: AdaptedSam,
        adapt: Stage,
        labeller: SliceLabeller,
        control: PlainControl | None = None,
        **noted: Any,
    ) -> None:
        parts = {"images": images, "features": slabs.features, "slabs": slabs, "labeller": labeller, **noted}
        super().__init__(run, cohort, control, **parts, adapt=adapt)
        self.images, self.slices, self.slabs, self.network = images, slices, slabs, network
        self.adapt, self.labeller = adapt, labeller

    def stages(self) -> None:
        self.load()
        self.encode()
        self.adapt.run()
        self.measure("pseudo labels", self.labeller.run)

    def load(self) -> None:
        """Bring all images, and the labels that are learnt from, to the grid, and to that of the slices."""
        for images in dict.fromkeys((self.images, self.slices)):
            self.measure("load volumes", partial(images.set_data, self.cohort.cases), pieces(self.cohort.cases))

    def encode(self) -> None:
        """Encode the slices of the labelled volumes and of their changed copies, and of others that are learnt from."""
        self.measure("SAM features", lambda: self.slabs.prepare(self.slices))
        if isinstance(self.network.decoder, HierarchicalDecoder):
            self.network.decoder.note_rarity(self.slabs.voxels(self.network.classes))
