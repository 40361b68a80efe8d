"""The stages of SemiSAM+ before the specialist learns."""

from __future__ import annotations

from typing import Any

from .common.cohorts.few_labels import FewLabelCohort
from .common.costs.pieces import pieces
from .common.run.run import Run
from .common.training.plan import Plan
from .control import PlainControl
from .generalists.answers import GeneralistAnswers
from .generalists.trial import GeneralistTrial
from .registration import RegistrationLabels


class FewLabelPlan(Plan):
    """All volumes to the grid, labels from registration, the generalists' trial, the embeddings of their first answers.

    Args:
        run, cohort: see `Plan`.
        images: of the cohort, loaded here.
        trial: who may teach.
        answers: of those who may, asked for while the specialist learns.
        registered: labels of the unlabelled cases; a stage of the plan where they are learnt from.
        control: see `Plan`.
    """

    def __init__(
        self,
        run: Run,
        cohort: FewLabelCohort,
        images: Any,
        trial: GeneralistTrial,
        answers: GeneralistAnswers,
        registered: RegistrationLabels,
        control: PlainControl | None = None,
    ) -> None:
        parts = {"generalists": answers.panel, "trial": trial, "answers": answers, "inferer": answers.inferer}
        if registered.on:
            parts |= {"registered": registered, "finer": registered.finer_scans}
        super().__init__(run, cohort, control, **parts)
        self.images, self.trial, self.answers, self.registered = images, trial, answers, registered

    def stages(self) -> None:
        self.load()
        self.register()
        self.try_generalists()
        self.embed()

    def load(self) -> None:
        """Bring all images, and the labels that are learnt from, to the grid."""
        self.measure("load volumes", lambda: self.images.set_data(self.cohort.cases), pieces(self.cohort.cases))

    def register(self) -> None:
        """Register the labelled cases to all others, where pseudo labels from that are learnt from."""
        if self.registered.on:
            self.measure("affine", self.registered.align)
            self.measure("registration", self.registered.register)

    def try_generalists(self) -> None:
        """Find out who of the generalists may teach."""
        self.measure("trial", self.trial.run, self.trial.share())

    def embed(self) -> None:
        """Encode the volumes that are asked about first."""
        self.measure("embed", self.answers.prepare, self.answers.share())
