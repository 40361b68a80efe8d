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
from .pseudo_labels.self_training import PseudoLabels


class FewLabelPlan(Plan):
    """All volumes to the grid, pseudo labels, the generalists' trial, the embeddings of their first answers.

    Args:
        run, cohort: see `Plan`.
        images: of the cohort, loaded here.
        trial: who may teach.
        answers: of those who may, asked for while the specialist learns.
        pseudo_labels: of the unlabelled cases; stages of the plan where they are learnt from.
        control: see `Plan`; with self-training it labels the others.
    """

    def __init__(
        self,
        run: Run,
        cohort: FewLabelCohort,
        images: Any,
        trial: GeneralistTrial,
        answers: GeneralistAnswers,
        pseudo_labels: PseudoLabels,
        control: PlainControl | None = None,
    ) -> None:
        parts = {"generalists": answers.panel, "trial": trial, "answers": answers, "inferer": answers.inferer}
        registered = pseudo_labels.registered
        if pseudo_labels.self_training:
            parts["pseudo_labels"] = pseudo_labels
        if registered.on:
            parts |= {"registered": registered, "finer": registered.finer_scans}
        super().__init__(run, cohort, control, **parts)
        self.images, self.trial, self.answers = images, trial, answers
        self.pseudo_labels, self.registered = pseudo_labels, registered

    def stages(self) -> None:
        self.load()
        self.register()
        self.teach_itself()
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

    def teach_itself(self) -> None:
        """Train the plain network first, and let it label all other cases."""
        if self.pseudo_labels.self_training and self.control.train(self):
            network = self.control.network.to(self.run.device)
            self.measure("pseudo labels", lambda: self.pseudo_labels.make(network))

    def try_generalists(self) -> None:
        """Find out who of the generalists may teach."""
        self.measure("trial", self.trial.run, self.trial.share())

    def embed(self) -> None:
        """Encode the volumes that are asked about first."""
        self.measure("embed", self.answers.prepare, self.answers.share())
