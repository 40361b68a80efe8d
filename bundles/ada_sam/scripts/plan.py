"""The stages of ADA-SAM before a segmenter learns from its pseudo labels; without a segmenter they are all there is."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from .cohort import FewSlicesCohort
from .common.costs.pieces import pieces
from .common.run.run import Run
from .common.training.plan import Plan
from .common.training.stage import Stage
from .control import PlainControl
from .images import Images
from .labeller import PseudoLabeller
from .learning.slices import SliceDataset
from .network import AdaSamVolume
from .review import Review
from .slice_model.adapted import AdaptedModel


class FewSlicesPlan(Plan):
    """The classifier, then all of ADA-SAM, then a plain 2D network beside it, then pseudo labels of both.

    Args:
        run, cohort: see `Plan`.
        volume: ADA-SAM as a network of volumes.
        network: what is deployed: a segmenter that learns from the pseudo labels, or `volume` itself. It is built
            before the trainers, whose data loaders draw a seed each.
        images: of the cohort on its grid, loaded here.
        slices: what ADA-SAM learns from, with SAM's features of them; their volumes are loaded here, too.
        classify, adapt: trainers of the classifier and of ADA-SAM.
        adapted: writes ADA-SAM's own files.
        slice_unet: trainer of the plain network; left out where it has no share in the pseudo labels.
        labeller: makes the pseudo labels; None where ADA-SAM itself is deployed, which needs none.
        control: see `Plan`.
        noted: further parts, for run.json alone.

    Attributes:
        review: of the pseudo labels, for people; None where there are none.
    """

    def __init__(
        self,
        run: Run,
        cohort: FewSlicesCohort,
        volume: AdaSamVolume,
        network: nn.Module,
        images: Images,
        slices: SliceDataset,
        classify: Stage,
        adapt: Stage,
        adapted: AdaptedModel,
        slice_unet: Stage | None = None,
        labeller: PseudoLabeller | None = None,
        control: PlainControl | None = None,
        **noted: Any,
    ) -> None:
        features = slices.features
        second = None if labeller is None else labeller.second
        learning = {"classify": classify, "adapt": adapt} | ({"slice_unet": slice_unet} if second else {})
        labelling = {"labeller": labeller, "second": second}
        parts = {
            "ada": volume.network,
            "inference": volume.inference,
            "adapted": adapted,
            "images": images,
            "features": features,
            "slices": slices,
            **{name: part for name, part in labelling.items() if part is not None},
            **noted,
        }
        super().__init__(run, cohort, control, **parts, **learning)
        self.network = network
        self.volume, self.images, self.features, self.slices = volume, images, features, slices
        self.seen: Any = slices.table.images  # MONAI's CacheDataset, filled by `load`
        self.classify, self.adapt, self.adapted, self.slice_unet = classify, adapt, adapted, slice_unet
        self.labeller = labeller
        self.review = None if labeller is None else Review(labeller, cohort, images, str(run.output_dir))

    def stages(self) -> None:
        self.load()
        self.encode()
        self.classify.run()
        self.adapt.run()
        self.adapted.write()
        if self.labeller is not None:
            self.learn_from_slices()
            self.label()

    def load(self) -> None:
        """Bring all images, with their bits and masks, to the grid, and to that of SAM's slices."""
        for images in dict.fromkeys((self.images, self.seen)):
            self.measure("load volumes", partial(images.set_data, self.cohort.cases), pieces(self.cohort.cases))

    def encode(self) -> None:
        """Encode all slices, and the views of those that have a mask, unless the encoder learns too."""
        self.measure("SAM features", lambda: self.features.prepare(self.seen))
        self.volume.network.note_extents(self.features.all_bits.values())
        self.volume.know_pieces(self.cohort.one_piece)
        self.measure("views", self.slices.prepare)

    def learn_from_slices(self) -> None:
        """Train the plain 2D network, where it has a share in the pseudo labels."""
        if self.labeller.second is not None:
            self.slice_unet.run()

    def label(self) -> None:
        """Make the pseudo labels, and write what a person needs to judge them."""
        self.measure("pseudo labels", self.labeller.run)
        self.measure("review", self.review.write, pieces(self.cohort.cases))
