"""The end of a training run of SemiSAM+: what its table compares and its report shows beside what all have."""

from __future__ import annotations

from typing import Any

from .common.report.finish import Finish as CommonFinish
from .common.report.overlay import grid_overlay
from .common.report.page import LABELS, Report
from .common.report.pictures import Card
from .common.scoring.compared import Compared
from .evaluation import CLEANED, generalist_column
from .plan import FewLabelPlan


class Finish(CommonFinish):
    """`report.finish.Finish` beside the cleaned specialist and the generalists' own masks, with the last answers."""

    to_compare = (
        "the same command with --plain_control true --resume true trains a plain UNet of the same labels beside it"
    )

    def __init__(self, plan: FewLabelPlan, **options: Any) -> None:
        super().__init__(plan=plan, **options)
        self.answers, self.trial, self.panel = plan.answers, plan.trial, plan.answers.panel
        self.registered, self.pseudo_labels = plan.registered, plan.pseudo_labels

    @property
    def method(self) -> str:
        """Name of the base method."""
        return self.plan.trainers["train"].objective.title

    @property
    def title(self) -> str:  # type: ignore[override]  # elsewhere a word, here known only after the trial
        """What was trained: the base method alone where no generalist was heard."""
        return f"SemiSAM+ ({self.method})" if self.panel.teachers else self.method

    def compared(self) -> list[Compared]:
        return [Compared("method", self.title, "dice"), CLEANED, *map(generalist_column, self.panel.compared)]

    def results(self) -> dict[str, Any]:
        learnt = {"registered": len(self.registered.selected)} if self.registered.on else {}
        if self.pseudo_labels.self_training:
            learnt["self_training"] = 0 if self.pseudo_labels.joined is False else len(self.pseudo_labels.selected)
        return {
            "labeled": len(self.cohort.labeled),
            "unlabeled": len(self.cohort.unlabeled),
            "grid": self.cohort.grid.as_dict(),
            "method": self.method,
            "generalists": self.panel.names,
            "teachers": self.panel.teachers,
            "trial": self.trial.summary(),
            "learnt_from": len(self.heard()),
            **learnt,
            "dice": self.scores(),
        }

    def heard(self) -> list[str]:
        """Return the cases whose last answer passed the gate."""
        return [case for case in self.answers.answered if self.answers.judgement(case)["weight"] > 0]

    def introduction(self) -> str:
        names = ", ".join(case["case"] for case in self.cohort.labeled)
        said = (
            f"{len(self.cohort.labeled)} labelled volumes ({names}) and {len(self.cohort.unlabeled)} unlabelled ones."
        )
        if self.pseudo_labels.self_training and self.pseudo_labels.joined is not False:
            beside = ", those from registration joined with them" if self.pseudo_labels.joined else ""
            said += (
                " A plain network learnt from the labelled ones and labelled the others; these "
                f"{len(self.pseudo_labels.selected)} labels{beside}, were learnt from, too."
            )
        elif self.registered.on:
            said += (
                f" The labelled ones were registered to the others; the labels that {len(self.registered.selected)} of "
                "these got from that were learnt from, too."
            )
        for line in self.trial.summary():
            said += (
                f" {line['generalist']} {'teaches' if line['teaches'] else 'was refused'}: prompted with "
                f"damaged masks of the labelled volumes, it changed their Dice by {line['mean gain']:+.3f}"
                f"{'' if line['teaches'] else ', so nothing is learnt from it and it is not compared'}."
            )
        asked = len(self.answers.answered)
        if asked:
            taught = " and ".join(self.panel.teachers)
            said += f" The last answers of {taught} on {len(self.heard())} of {asked} cases passed the gate."
        said += "\n\nCleaned is the control: the same prediction smoothed, its largest component of each label alone."
        if self.panel.compared:
            said += (
                " The columns of the generalists are what they make of the specialist's own predictions, by kind of "
                "prompt. A generalist that is worse than the specialist has nothing left to teach."
            )
        return said

    def limits(self) -> list[str]:
        seen = "Public SAMs may have been trained on public test cases: LiteMedSAM and SAM-Med3D on the left atrium."
        if not self.panel.teachers:
            own = self.pseudo_labels.self_training and self.pseudo_labels.joined is not False
            pseudo = ["labels of a first network"] * own + ["labels from registration"] * self.registered.on
            beside = f", beside {' and '.join(pseudo)}" if pseudo else ""
            used = f"No generalist taught: this is the base method{beside}."
        else:
            taught = " and ".join(self.panel.teachers)
            used = f"Generalists: {taught}, frozen; used in training and in this report, never in prediction."
        return [
            "The model was chosen without any label but those learnt from: it is the last one.",
            "Agreement compares a generalist with the specialist that prompted it, not with the truth.",
            used,
            *([seen] if self.panel.compared else []),
        ]

    def describe(self, page: Report) -> None:
        answers, names = self.answers, dict(enumerate(self.cohort.labels.values()))
        judged = {case: answers.judgement(case) for case in answers.answered}
        ranked = sorted(judged, key=lambda case: judged[case]["agreement"])
        images = {item["case"]: item["image"] for item in answers.images}
        cards = []
        for word, case in [("least", case) for case in ranked[:1]] + [("most", case) for case in ranked[1:][-1:]]:
            answer = answers.load(case)["answer"].argmax(0)
            picture = grid_overlay(images[case], {"answer": answer}, names, self.cohort.grid.pixdim)
            line = f"the generalists' answer of {word} agreement with the specialist"
            cards.append(Card(case, line, picture, badge=f"agreement {judged[case]['agreement']:.2f}"))
        page.add_cards(cards, LABELS)
        rows = [
            {
                "scan": case,
                "agreement": judged[case]["agreement"],
                "disagreement of the masks": judged[case]["disagreement"],
                **({"agreement of the generalists": judged[case]["mutual"]} if len(self.panel.teachers) > 1 else {}),
                "learnt from": "yes" if judged[case]["weight"] > 0 else "no",
            }
            for case in ranked
        ]
        if rows:
            note = "Agreement is the Dice with the specialist's own prediction, mean over the labels."
            page.add_table("The last answers of the generalists, least agreement first", rows, note, section=LABELS)
        if self.trial.rows:
            note = "Masks of labelled volumes, damaged to a known Dice, as prompts; below it, the Dice of the answers."
            page.add_table("Trial of the generalists", self.trial.summary(), note, section=LABELS)
