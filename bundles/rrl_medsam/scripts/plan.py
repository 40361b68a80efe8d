"""The stages of RRL-MedSAM before the network learns from pseudo labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .cohort import OneShotCohort
from .common.atlas.choosing.proposal import pairs_to_compare, pairs_to_propose
from .common.atlas.labeller import AtlasLabeller
from .common.costs.pieces import Pieces, count, pieces
from .common.learning.distillation import FeatureDistillation
from .common.run.run import Run
from .common.training.plan import Plan
from .common.training.stage import Stage
from .learning.teacher import SamTeacher


class OneShotPlan(Plan):
    """SAM's features into the general encoder (1a), registration and segmentation jointly (1b), then pseudo labels.

    Args:
        run, cohort: see `Plan`.
        images: of the cohort, loaded here.
        teacher: without a SAM stage 1a is left out.
        labeller: registers the atlas.
        distillation: learns with stage 1a and is dropped then.
        distill, register: trainers of 1a and 1b.
    """

    def __init__(
        self,
        run: Run,
        cohort: OneShotCohort,
        teacher: SamTeacher,
        images: Any,
        labeller: AtlasLabeller,
        distillation: FeatureDistillation,
        distill: Stage,
        register: Stage,
    ) -> None:
        parts = {"teacher": teacher, "labeller": labeller, "distill": distill, "register": register}
        super().__init__(run, cohort, **parts, finer=labeller.finer_scans)
        self.teacher, self.images, self.labeller, self.distillation = teacher, images, labeller, distillation
        self.distill, self.register = distill, register

    def stages(self) -> None:
        self.load()
        self.align()
        self.encode()
        if self.teacher.name:
            self.distill.run()
        self.register.run()
        self.label()

    def load(self) -> None:
        """Bring all images to the grid."""
        self.measure("load volumes", lambda: self.images.set_data(self.cohort.images), pieces(self.cohort.images))

    def align(self) -> None:
        """Choose the atlas where none was named, and find its affine to every case."""
        self.measure("atlas", self.choose, self.pairs)
        self.measure("affine", self.labeller.align)

    @property
    def pairs(self) -> Pieces:
        """How many pairs of scans are registered for `choose`."""
        images, candidates = self.cohort.images, self.cohort.num_candidates
        if self.cohort.is_named:
            here, in_all = pairs_to_compare(len(images)), pairs_to_compare(count(images))
        else:
            here = pairs_to_propose(len(images), len(self.cohort.candidates))
            in_all = pairs_to_propose(count(images), candidates)
        return Pieces(here, in_all, unit="pairs")

    def choose(self) -> None:
        """Choose the atlas, or say how one that a person chose compares with other scans."""
        self.labeller.choose()
        self.cohort.tell_reach(self.images, self.labeller.channel)

    def encode(self) -> None:
        """Compute the teacher's features, where there is one."""
        self.measure("SAM features", lambda: self.teacher.prepare(self.images, self.distillation, self.deepest_size))

    def label(self) -> None:
        """Register the atlas to every case, with the trained network and without it: the pseudo labels of round 1."""
        self.measure("registration", self.labeller.register)

    @property
    def deepest_size(self) -> Sequence[int]:
        """Voxels of the network's deepest features."""
        grid, network = self.cohort.grid, self.labeller.network
        return [n // factor for n, factor in zip(grid.spatial_size, network.factors, strict=True)]
