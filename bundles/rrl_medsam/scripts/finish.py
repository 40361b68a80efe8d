"""The end of a training run of RRL-MedSAM: what its table compares and its report shows beside what all have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .common.report.finish import Finish as CommonFinish
from .common.report.overlay import grid_overlay
from .common.report.page import DATA, LABELS, Report
from .common.report.pictures import Card
from .common.report.plots import draw_strips
from .common.report.tables import plain_text
from .common.scoring.compared import Compared
from .evaluation import PROPAGATION
from .plan import OneShotPlan

SHOWN = 4  # atlases, and pseudo labels, in the report
BY_LABEL = "How far independent opinions of the masks agree, structure by structure (Dice)"


class Finish(CommonFinish):
    """`report.finish.Finish` beside label propagation, with the atlas and the pseudo labels of the last round."""

    title = "RRL-MedSAM"

    def __init__(self, plan: OneShotPlan, **options: Any) -> None:
        super().__init__(plan=plan, **options)
        self.labeller, self.sam = plan.labeller, plan.teacher.name

    def compared(self) -> list[Compared]:
        return [
            PROPAGATION,
            Compared("method", self.title, "dice"),
            Compared("gain", "gain", against=PROPAGATION.name),
        ]

    def results(self) -> dict[str, Any]:
        labeller = self.labeller
        return {
            "atlas": labeller.atlas.case if len(labeller.atlases) == 1 else sorted(labeller.labelled),
            "labeled": len(labeller.atlases),
            "unlabeled": len(self.cohort.images) - len(labeller.atlases),
            "learnt_from": len(labeller.selected) + len(labeller.atlases),
            "grid": self.cohort.grid.as_dict(),
            "sam": self.sam,
            "dice": self.scores(),
        }

    def introduction(self) -> str:
        labeller = self.labeller
        names, count = ", ".join(sorted(labeller.labelled)), len(labeller.atlases)
        labelled = f"One labelled volume ({names})" if count == 1 else f"{count} labelled volumes ({names})"
        return (
            f"{labelled} and {len(self.cohort.images) - count} unlabelled ones. The last round learnt from what is "
            f"labelled and the {len(labeller.selected)} pseudo labels of highest agreement."
        )

    def limits(self) -> list[str]:
        left_out = "Without SAM: the distillation stage was left out."
        return [
            "The model was chosen without any label but the atlas's: it is the last one.",
            "Quality of a pseudo label is the agreement of independent opinions, not a comparison with truth.",
            left_out if self.sam is None else f"Teacher: {self.sam}, frozen.",
        ]

    def describe(self, page: Report) -> None:
        labeller, names = self.labeller, dict(enumerate(self.labeller.cohort.labels.values()))
        spacing = labeller.cohort.grid.pixdim
        images = {item["case"]: item["image"] for item in labeller.images}
        word = "the one label learnt from" if len(labeller.atlases) == 1 else "a label learnt from"
        page.add_cards([
            Card(f"atlas {atlas.case}", f"{word}, drawn by a person",
                 grid_overlay(images[atlas.case], {"atlas": atlas.label[0].argmax(0)}, names, spacing))
            for atlas in labeller.atlases[:SHOWN]
        ], DATA)  # fmt: skip
        judged = {case: labeller.labels.judgement(case) for case in images if case not in labeller.labelled}
        ranked = sorted(judged, key=lambda case: judged[case]["quality"])
        cards = []
        for case in ranked[:SHOWN]:
            taught = "learnt from" if case in labeller.selected else "left out"
            label = labeller.labels.load(case)["label"].argmax(0)
            picture = grid_overlay(images[case], {"pseudo label": label}, names, spacing)
            line = f"{taught}; lowest agreement: {lowest_agreement(judged[case], names)}"
            cards.append(Card(case, line, picture, badge=f"agreement {judged[case]['quality']:.2f}"))
        if cards:
            page.add_text(f"The {len(cards)} of lowest agreement, of {len(ranked)}:", LABELS)
        page.add_cards(cards, LABELS)
        by_label = [judged[case].get("by_label", {}) for case in ranked]
        strips = agreement_strips(by_label, names)
        if strips:
            draw, size = draw_strips(strips, "agreement of independent opinions (Dice)")
            alt = "; ".join(f"{name}: median {median(of['agreement']):.2f}" for name, of in strips.items())
            page.add_plot("How far independent opinions of each mask agree, a dot a scan", draw, alt, LABELS, size)
        rows = [
            {"scan": case, "agreement": judged[case]["quality"], "folded voxels (%)": judged[case]["folding_percent"],
             "learnt from": "yes" if case in labeller.selected else "no"}
            for case in ranked
        ]  # fmt: skip
        page.add_table("Masks of the last round, lowest agreement first", rows, section=LABELS)
        page.add_table(BY_LABEL, agreement_of_labels(by_label, names), section=LABELS)


def lowest_agreement(judged: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """Return the label of a pseudo label on which opinions agree least, with their Dice; of all where none is known."""
    found = {names[int(number)]: dice for number, dice in judged.get("by_label", {}).items()}
    if not found:
        return f"{judged['quality']:.2f}"
    name = min(found, key=lambda one: found[one])
    return f"{name}, {found[name]:.2f}"


def agreement_strips(judged: Sequence[Mapping[str, float]], names: Mapping[int, str]) -> dict[str, dict[str, list]]:
    """Return the agreement of each case by label, for a plot; arguments as of `agreement_of_labels`."""
    found = {name: [one[str(number)] for one in judged if str(number) in one] for number, name in names.items()}
    return {plain_text(name): {"agreement": dices} for name, dices in found.items() if dices}


def agreement_of_labels(judged: Sequence[Mapping[str, float]], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return a row for each label with its median and lowest agreement over the cases, and the cases it is said of.

    Args:
        judged: of each case, class as text -> Dice.
        names: class -> name.
    """
    rows = []
    for number, name in names.items():
        found = [one[str(number)] for one in judged if str(number) in one]
        if found:
            rows.append({"structure": name, "median": median(found), "lowest": min(found), "cases": len(found)})
    return rows
