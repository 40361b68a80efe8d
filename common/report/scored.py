"""What a page says of scores: the verdict, the scans worst first, the structures, and all numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..control.good_enough import BAD, GOOD, PARTLY, Answer, good_enough, short, summarise
from ..control.good_enough import RULE as GOOD_ENOUGH_RULE
from ..control.verdict import BELOW, BETTER, Verdict
from ..scoring.compared import Compared
from ..scoring.metrics import POOR, is_penalty
from ..scoring.oddities import RULE
from ..scoring.table import MetricsTable
from .gallery import Gallery
from .page import CASES, NUMBERS, STRUCTURES, Report
from .pictures import Card
from .plots import draw_strips
from .tables import PENALTY, format_value, mean, plain_text

TITLES = {"name": "structure", "dice": "Dice", "hd95": "HD95 (mm)", "assd": "mean distance (mm)"}
PENALISED = (
    f"{PENALTY} Not measured: mask or truth is empty there, and the diagonal of the scan stands in its place, so that "
    "a miss never looks better than a bad hit."
)
UNSCORED = "No scan with a mask was kept back to score by: nothing here says how good the model is."


class Scored:
    """Adds to a page what the scores of an evaluation say.

    Args:
        table: of the scores.
        columns: what is compared; one is called "method".
        gallery: of the evaluation.
    """

    def __init__(self, table: MetricsTable, columns: Sequence[Compared], gallery: Gallery) -> None:
        self.rows, self.names, self.columns, self.gallery = table.rows, table.label_names, columns, gallery

    def add_verdict(self, page: Report, verdicts: Sequence[Verdict], to_compare: str) -> None:
        """Say whether the method beats its controls, and what it is good enough for.

        Args:
            to_compare: how to get a control, where there is no verdict.
        """
        dice = self.case_dice()
        if not dice:
            page.add_verdict(UNSCORED, [])
            return
        answers = good_enough(dice, {plain_text(name): values for name, values in self.label_dice().items()})
        lead = f"{summarise(dice)} None of these scans was learnt from."
        page.add_verdict(lead, [*compared_answers(verdicts, to_compare), *answers])
        page.add_text(GOOD_ENOUGH_RULE, fold="The rule behind these answers")

    def add_cases(self, page: Report) -> None:
        """Add the cases, worst first, with what is odd about each."""
        cards, ordered = [], self.case_dice()
        known = [case for case, dice in ordered.items() if not math.isnan(dice)]
        best = known[-1] if len(known) > 1 else ""
        for case, dice in ordered.items():
            odd = self.gallery.oddities.get(case)
            line = odd.line(self.names) if odd else f"Dice {format_value(dice)}"
            columns = ", ".join(self.gallery.maps)
            alt = f"{case} in three planes, one column each with outlines for {columns}: {line}"
            badge = "not scored" if math.isnan(dice) else f"{'best, ' if case == best else ''}Dice {short(dice)}"
            cards.append(Card(case, line, self.gallery.pictures.get(case), alt, badge, dice < POOR))
        page.add_cards(cards, CASES)
        if self.gallery.oddities:
            page.add_text(RULE, CASES, fold="What a line tells")

    def add_structures(self, page: Report) -> None:
        """Add the Dice of each label, a dot a case, beside the first control's."""
        method = next(c for c in self.columns if c.name == "method")
        controls = [c for c in self.columns if c.control and c.column][:1]
        of = {c.title: self.label_dice(c.column) for c in (method, *controls)}
        strips = {
            plain_text(name): {plain_text(title): by_label[name] for title, by_label in of.items()}
            for name in of[method.title]
        }
        draw, size = draw_strips(strips, "Dice", POOR)
        means = [f"{name} {format_value(mean(values))}" for name, values in of[method.title].items()]
        alt = f"Means of {method.title}: {', '.join(means)}. The dashed line is at {POOR:.2f}."
        page.add_plot("Dice of each scan, a dot each; a bar is the mean", draw, alt, STRUCTURES, size)

    def add_numbers(self, page: Report) -> None:
        """Add each case's numbers under words a reader knows; distances that weren't measured are marked."""
        titles = {c.column: f"{c.title}: Dice" for c in self.columns if c.column and c.name != "method"}
        titles |= {c.hd95: f"{c.title}: HD95 (mm)" for c in self.columns if c.hd95}
        note = PENALISED if any(is_penalty(row) for row in self.rows) else None
        rows = [readable(row, titles) for row in self.rows]
        page.add_table("Each scan on its native grid", rows, note, NUMBERS, fold=True)

    def case_dice(self) -> dict[str, float]:
        """Return the mean Dice over the labels of each case, NaN where it has none of them; worst first."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            found.setdefault(row["case"], []).append(float(row["dice"]))
        means = {case: mean([one for one in values if not math.isnan(one)]) for case, values in found.items()}
        return dict(sorted(means.items(), key=lambda pair: (math.isnan(pair[1]), pair[1])))

    def label_dice(self, column: str = "dice") -> dict[str, list[float]]:
        """Return the Dice of each label's cases by its name, NaN left out."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            value = float(row.get(column, math.nan))
            found.setdefault(row["name"], []).extend([] if math.isnan(value) else [value])
        return found


def compared_answers(verdicts: Sequence[Verdict], to_compare: str) -> list[Answer]:
    """Return whether a method beats each control, or how to get one."""
    if not verdicts:
        text = f"Nothing was compared: {to_compare}."
        return [Answer("Better than a simpler way?", "not compared", PARTLY, text)] if to_compare else []
    words = {BETTER: ("yes", GOOD), BELOW: ("no", BAD)}
    return [
        Answer(f"Better than {one.control}?", *words.get(one.verdict, ("not shown", PARTLY)), one.text)
        for one in verdicts
    ]


def readable(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of the metrics under words a reader knows, with distances that weren't measured marked."""
    penalty, shown = is_penalty(row), {}
    for name, value in row.items():
        if name == "label":
            continue  # its name stands beside it
        if penalty and name in ("hd95", "assd"):
            value = f"{value:.1f} {PENALTY}"
        shown[titles.get(name, TITLES.get(name, name.replace("_", " ")))] = three_decimals(value)
    return shown


def three_decimals(value: Any) -> Any:
    """Return a number as a score is shown, 0.000 for what is nearly nothing; other values as they are."""
    return round(value, 3) if isinstance(value, float) and not math.isnan(value) else value
