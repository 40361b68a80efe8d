"""The stages of WeakMedSAM before the segmenter learns from pseudo labels."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist

from .classifier.clusters import SubClasses
from .classifier.evidence import image_evidence, without_evidence
from .cohort import WeakCohort
from .common.costs.pieces import pieces, rehearsal
from .common.data.presence import foreground_values
from .common.errors import InputError, printable
from .common.grid.field_of_view import inside_scan
from .common.run.run import Run
from .common.sam.features.volume import spaced_slices
from .common.training.plan import Plan
from .common.training.stage import Stage
from .labeller import PseudoLabeller
from .prior.telling import untold
from .review import Review

ASKED = 40  # scans whose slices are compared before a classifier learns: more would say the same


class WeakPlan(Plan):
    """Where a prior needs it a slice classifier on a SAM's features; then the prior, rounds of appearance, labels.

    Args:
        run, cohort: see `Plan`.
        clusters: sub-classes that the classifier is taught.
        labeller: makes the pseudo labels; its images are loaded and its features encoded here.
        classify, appearance: trainers of the classifier and of the rounds.
    """

    def __init__(
        self,
        run: Run,
        cohort: WeakCohort,
        clusters: SubClasses,
        labeller: PseudoLabeller,
        classify: Stage,
        appearance: Stage,
    ) -> None:
        self.images: Any = labeller.images  # MONAI's CacheDataset, filled by `load`
        self.features, self.clusters, self.labeller = labeller.features, clusters, labeller
        parts: dict[str, Any] = {"features": self.features, "clusters": clusters, "classifier": labeller.classifier}
        parts |= {"labeller": labeller, "walk": labeller.walk}
        super().__init__(run, cohort, **parts, classify=classify, appearance=appearance)
        self.classify, self.appearance = classify, appearance
        self.review = Review(labeller, cohort, self.images, str(run.output_dir))

    def prepare(self) -> None:
        """Do what `Plan.prepare` does, after a look at whether bits can tell the labels, where no box does.

        Raises:
            InputError: also, one line a label or group of labels: they can't, and `prior` is auto; a prior that was
                asked for gets a warning in the place of each.
        """
        if not self._prepared:
            self.cohort.check()
            self._check_bits()
        super().prepare()

    def _check_bits(self) -> None:
        if self.labeller.prior == "box":
            return
        unsized = [
            value
            for value, place in self.cohort.locations.items()
            if place.volume_ml is None and self.labeller.threshold == "otsu"
        ]
        bits = [found.bits for found in self.cohort.slice_labels.values()]
        self._refuse(untold(bits, self.cohort.labels, unsized))

    def check_images(self) -> None:
        """Look whether images tell the slices of each label, by what height in the scan does not.

        Raises:
            InputError: as of `prepare`, where activation maps have nothing to go by.
        """
        chosen = list(self.images)[:: max(1, len(self.images) // ASKED)][:ASKED]
        if len(chosen) < 2 or self.features.tuned or rehearsal() is not None:  # the few of a dry run say nothing
            return
        known, axis = self.features.all_bits, self.cohort.slice_axis
        features, bits = [], []
        for item in chosen:
            scanned = inside_scan(item["image"]).cpu().movedim(axis + 1, 1).flatten(2).any(2)[0].bool()  # [n]
            encoded = self.features.features(item["case"]).mean((2, 3))  # [n, D]
            position = spaced_slices(len(scanned), len(encoded))
            kept = scanned[position]
            features.append(encoded[kept].float().cpu().numpy())
            bits.append(known[item["case"]][:, position][:, kept].cpu().numpy() > 0)
        names = [f"{value} ({self.cohort.labels[value]})" for value in foreground_values(self.cohort.labels)]
        self._refuse(without_evidence(image_evidence(features, bits, self.run.seed), names, len(chosen)))

    def _refuse(self, lines: list[str]) -> None:
        if lines and self.labeller.asked == "auto":
            raise InputError(f"{self.cohort.name}: {line}; --prior cam tries nevertheless" for line in lines)
        if idist.get_rank() == 0:
            for line in lines:
                print(f"warning: {printable(line)}", flush=True)

    def stages(self) -> None:
        self.load()
        self.encode()
        if self.labeller.needs_classifier:
            self.check_images()
            self.learn_to_classify()
        self.make_priors()
        self.leave_out_rejected()
        self.learn_appearance()
        self.make_labels()
        self.measure("review", self.review.write, pieces(self.cohort.cases))

    def load(self) -> None:
        """Bring all images and their bits to the grid."""
        self.measure("load volumes", lambda: self.images.set_data(self.cohort.cases), pieces(self.cohort.cases))

    def encode(self) -> None:
        """Compute the features of all slices, where there is a SAM."""
        if self.features.name:
            self.measure("SAM features", lambda: self.features.prepare(self.images))

    def learn_to_classify(self) -> None:
        """Find the sub-classes of the positive slices, and train the classifier on them and on the bits."""
        self.measure("cluster", self.find_subclasses, pieces(self.cohort.cases))
        self.classify.run()

    def find_subclasses(self) -> None:
        """Find the sub-classes of the positive slices."""
        self.clusters.fit(self.features.pooled(), self.features.all_bits)

    def make_priors(self) -> None:
        """Make the prior of every case, and the soft labels that the first round learns from."""
        self.measure("prior", self.labeller.start)

    def leave_out_rejected(self) -> None:
        """Let whatever learns from labels learn from those alone that nobody has rejected."""
        for stage in (self.appearance, self.trainers["train"]):
            stage.data_loader.sampler.subset = self.labeller.training_indices()

    def learn_appearance(self) -> None:
        """Train the appearance network in its rounds, where there are any."""
        if self.labeller.rounds:
            self.appearance.run()

    def make_labels(self) -> None:
        """Make the pseudo labels that the segmenter learns from."""
        self.measure("pseudo labels", lambda: self.labeller.finish(self.appearance.network))
