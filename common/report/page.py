"""The report of a run: one HTML file with verdict, pictures, plots and tables inside, for any browser and for paper."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any

from ..control.good_enough import Answer
from ..files.atomic_write import write_atomic
from ..run.manifest import RunManifest
from .pictures import Card, cards
from .plots import Draw, draw_curves, plot_svg
from .tables import escape, folded, format_seconds, format_value, paragraphs, plain_text, points, table

SUMMARY, CASES, STRUCTURES = "In short", "Scans, worst first", "How good it is, structure by structure"
EXPECTED = "How good it probably is, structure by structure"
CERTAINTY = "How far its own certainty can be trusted"
DATA, LABELS = "The scans and masks it was given", "Masks made by the computer, which it learnt from"
CURVES, NUMBERS, COST = "How the training went", "All numbers", "Time and machine"
WORDS, LIMITS = "Words used here", "What to keep in mind"
ORDER = (SUMMARY, CASES, STRUCTURES, EXPECTED, CERTAINTY, DATA, LABELS, CURVES, NUMBERS, COST, WORDS, LIMITS)
WARNING = "Research software, not a medical device: a person who can judge the images has to look at every result."
TEMPLATE = Path(__file__).with_name("template.html")
MEANINGS = {
    "Dice": "overlap of two masks: 0 where they share nothing, 1 where they are the same.",
    "HD95": "how far the outlines are apart, in mm, when the worst twentieth of the outline is left out.",
    "mean distance": "how far the outlines are apart on average, in mm (ASSD).",
    "truth": "the mask that a person has drawn.",
    "prediction": "the mask that the model has drawn.",
    "control": "a simpler way to the same masks; a method that is not better than it is not worth its effort.",
    "mask made by the computer": "a pseudo label: a mask of a scan that nobody has drawn on, made to learn from.",
    "native grid": "the voxels of the scan as it is stored.",
}


class Report:
    """Collects a verdict, texts, pictures, plots and tables by section and writes them as one report.html.

    The page loads nothing, runs no script and needs no server. All that is added is escaped, and paths in it are
    shortened to their last part. Sections stand in the order of `ORDER`; a section of another name comes before
    the words and the limits.

    Args:
        title: heading of the page.
        output_dir: folder of report.html; made on `write()`.
    """

    FILE = "report.html"

    def __init__(self, title: str, output_dir: str | os.PathLike) -> None:
        self.title = title
        self.path = Path(output_dir).expanduser() / self.FILE
        self._sections: dict[str, list[str]] = {}
        self._count = 0

    def add_verdict(self, lead: str, answers: Sequence[Answer], section: str = SUMMARY) -> None:
        """Add what a reader wants first: all of it in a sentence, and questions with their answers."""
        rows = "\n".join(
            f'<div class="{one.level}"><dt>{escape(one.question)} <span class="badge">{escape(one.word)}</span></dt>'
            f"<dd>{escape(one.text)}</dd></div>"
            for one in answers
        )
        verdict = f'\n<dl class="verdict">\n{rows}\n</dl>' if rows else ""
        self._add(section, f'<p class="lead">{escape(lead)}</p>{verdict}')

    def add_text(self, text: str | Sequence[str], section: str = SUMMARY, fold: str | None = None) -> None:
        """Add paragraphs (parted by an empty line), or a list of points where `text` is a list.

        Args:
            fold: words whose click opens it.
        """
        if text:
            block = paragraphs(text) if isinstance(text, str) else points(text)
            self._add(section, folded(fold, block) if fold else block)

    def add_table(
        self,
        title: str,
        rows: Sequence[Mapping[str, Any]],
        note: str | None = None,
        section: str = NUMBERS,
        fold: bool | None = None,
    ) -> None:
        """Add a table, see `tables.table`; long ones are folded."""
        self._add(section, table(self._name("table"), title, rows, note, fold))

    def add_plot(
        self, title: str, draw: Draw, alt: str, section: str = STRUCTURES, size: tuple[float, float] = (7.2, 3.2)
    ) -> None:
        """Add a plot.

        Args:
            draw: is given a matplotlib axis; draws in `plots.INK` and the colours of `plots.SERIES`.
            alt: what it shows, for those who don't see it.
            size: inches.
        """
        svg = plot_svg(draw, self._name("plot"), escape(f"{title}. {alt}"), size)
        self._add(section, f'<figure class="plot">{svg}<figcaption>{escape(title)}</figcaption></figure>')

    def add_curves(
        self,
        title: str,
        series: Mapping[str, Sequence[tuple[float, float]]],
        step_name: str = "epoch",
        section: str = CURVES,
    ) -> None:
        """Add curves; `series` is name -> (step, value) pairs."""
        ends = [f"{name} ends at {format_value(pairs[-1][1])}" for name, pairs in series.items() if pairs]
        named = {plain_text(name): pairs for name, pairs in series.items()}
        self.add_plot(title, draw_curves(named, plain_text(step_name)), f"By {step_name}: {'; '.join(ends)}.", section)

    def add_cards(self, items: Sequence[Card], section: str = CASES) -> None:
        """Add scans in their order: a picture that a click enlarges and a line each, see `pictures.cards`."""
        if items:
            self._add(section, cards(items, self._count + 1))
            self._count += len(items)

    def add_costs(self, manifest: RunManifest) -> None:
        """Add what each stage cost and what the run was made on, and the data set's hash where there is one."""
        facts = manifest.as_dict()
        rows = []
        for name, cost in facts["stages"].items():
            row = {
                "stage": name,
                "time": format_seconds(cost["wall_seconds"]),
                "CPU time": format_seconds(cost["cpu_seconds"]),
                "peak memory (GiB)": round(cost["peak_memory_mib"] / 1024, 2),
            }
            if "peak_gpu_memory_mib" in cost:
                row["peak GPU memory (GiB)"] = round(cost["peak_gpu_memory_mib"] / 1024, 2)
            rows.append(row)
        times = facts["times_resumed"]
        note = "CPU time is summed over all threads. A stage that runs inside another one is counted in both."
        note += f" Resumed {times} time{'s' if times > 1 else ''}; costs are summed over all parts." if times else ""
        self.add_table("What each stage cost", rows, note, COST, fold=True)
        machine = {key.replace("_gib", " (GiB)").replace("_", " "): value for key, value in facts["machine"].items()}
        seed = {"seed": facts["seed"]} if facts["seed"] is not None else {}
        made_on = {**seed, **machine, **facts["versions"]}
        parts = [{"part": key, "value": str(value)} for key, value in made_on.items()]
        note = f"All of it, and the configuration, is in {manifest.FILE} beside this page."
        self.add_table("What it ran on", parts, note, COST, fold=True)
        if facts["dataset"]:
            data = facts["dataset"]
            counts = ", ".join(f"{count} {name}" for name, count in data["cases"].items() if count)
            text = f"{counts}; {data['files']} files, {data['bytes'] / 2**20:.1f} MiB; sha256 {data['sha256']}"
            self.add_text(f"Data set: {text} of dataset.json and the names and sizes of its files.", COST)

    def write(self) -> Path:
        """Write report.html atomically and return its path."""
        sections = {name: list(blocks) for name, blocks in self._sections.items()}
        terms = "\n".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in MEANINGS.items())
        sections.setdefault(WORDS, []).append(folded("What the words mean", f'<dl class="words">\n{terms}\n</dl>'))
        sections.setdefault(LIMITS, []).append(paragraphs(WARNING))
        others = [name for name in sections if name not in ORDER]
        names = [name for name in (*ORDER[:-2], *others, WORDS, LIMITS) if name in sections]
        blocks = [
            f'<section aria-labelledby="section-{number}"><h2 id="section-{number}">{escape(name)}</h2>\n'
            + "\n".join(sections[name])
            + "\n</section>"
            for number, name in enumerate(names, start=1)
        ]
        links = [f'<li><a href="#section-{number}">{escape(name)}</a></li>' for number, name in enumerate(names, 1)]
        page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=escape(self.title),
            subtitle=escape(f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {WARNING}"),
            navigation="\n".join(links),
            sections="\n".join(blocks),
            footer="This page is complete in itself: it loads nothing and may be kept, sent and printed.",
        )
        return write_atomic(self.path, page)

    def _add(self, section: str, block: str) -> None:
        self._sections.setdefault(section, []).append(block)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"
