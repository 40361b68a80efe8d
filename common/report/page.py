"""The report of a run: one HTML file with its tables, curves and pictures inside, for any browser and for paper."""

from __future__ import annotations

import base64
import html
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from numbers import Integral, Real
from pathlib import Path
from string import Template
from typing import Any

from ..errors import printable
from ..files.atomic_write import write_atomic
from ..run.folders import without_paths
from ..run.manifest import RunManifest
from .curves import curves_svg

SUMMARY, COST, DATA = "Summary", "Cost", "Data"
LABELS, CURVES, CASES, LIMITS = "Pseudo labels", "Curves", "Cases", "Limits"
ORDER = (SUMMARY, DATA, LABELS, CASES, CURVES, COST, LIMITS)
WARNING = "Research software, not a medical device: a person who can judge the images has to look at every result."
TEMPLATE = Path(__file__).with_name("template.html")


class Report:
    """Collects texts, tables, curves and overlays by section and writes them as one self-contained report.html.

    The page loads nothing, runs no script and needs no server. All that is added is escaped, and paths in it are
    shortened to their last part. Sections stand in the order of `ORDER`; a section of another name comes before
    the limits.

    Args:
        title: heading of the page.
        output_dir: folder of report.html; made on `write()`.
    """

    FILE = "report.html"

    def __init__(self, title: str, output_dir: str | os.PathLike) -> None:
        self.title = title
        self.path = Path(output_dir).expanduser() / self.FILE
        self._sections: dict[str, list[str]] = {}
        self._tables = 0

    def add_text(self, text: str | Sequence[str], section: str = SUMMARY) -> None:
        """Add paragraphs (parted by an empty line), or a list of points where `text` is a list."""
        if isinstance(text, str):
            block = "\n".join(f"<p>{_escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())
        else:
            block = "<ul>\n" + "\n".join(f"<li>{_escape(point)}</li>" for point in text) + "\n</ul>"
        self._add(section, block)

    def add_table(
        self, title: str, rows: Sequence[Mapping[str, Any]], note: str | None = None, section: str = CASES
    ) -> None:
        """Add a table; its columns are the keys of all rows in the order they come, the first one heads the row.

        Floats are shown with three decimals; None and NaN, which mean that there is no such number, as a dash.
        """
        columns = list(dict.fromkeys(key for row in rows for key in row))
        if not columns:
            self._add(section, f"<p><strong>{_escape(title)}</strong>: none.</p>")
            return
        self._tables += 1
        name = f"table-{self._tables}"
        right = {key for key in columns[1:] if all(_is_number(row.get(key)) for row in rows)}
        sides = {key: ' class="number"' if key in right else "" for key in columns}
        head = "".join(f'<th scope="col"{sides[key]}>{_escape(key)}</th>' for key in columns)
        lines = []
        for row in rows:
            first = f'<th scope="row">{_escape(format_value(row.get(columns[0])))}</th>'
            rest = "".join(f"<td{sides[key]}>{_escape(format_value(row.get(key)))}</td>" for key in columns[1:])
            lines.append(f"<tr>{first}{rest}</tr>")
        body = "\n".join(lines)
        block = (
            f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0"><table>'
            f'<caption id="{name}">{_escape(title)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        )
        self._add(section, block + (f'\n<p class="note">{_escape(note)}</p>' if note else ""))

    def add_curves(
        self,
        title: str,
        series: Mapping[str, Sequence[tuple[float, float]]],
        step_name: str = "epoch",
        section: str = CURVES,
    ) -> None:
        """Add curves, drawn for a light and a dark page; `series` is name -> (step, value) pairs."""
        light, dark = (_data_uri(curves_svg(series, step_name, scheme), "svg+xml") for scheme in ("light", "dark"))
        ends = [f"{name} ends at {format_value(pairs[-1][1])}" for name, pairs in series.items() if pairs]
        alternative = _escape(f"{title}, by {step_name}. {'; '.join(ends)}.")
        self._add(
            section,
            f'<figure><img class="on-light" alt="{alternative}" src="{light}">'
            f'<img class="on-dark" alt="{alternative}" src="{dark}"><figcaption>{_escape(title)}</figcaption></figure>',
        )

    def add_overlay(self, caption: str, png: bytes, alt: str | None = None, section: str = LABELS) -> None:
        """Add a picture, e.g. of `overlay_png`; `alt` says what is seen where the caption doesn't."""
        block = (
            '<figure><div class="scroll picture" role="group" tabindex="0" '
            f'aria-label="{_escape(caption)}"><img alt="{_escape(alt or caption)}" src="{_data_uri(png, "png")}"></div>'
            f"<figcaption>{_escape(caption)}</figcaption></figure>"
        )
        self._add(section, block)

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
        self.add_table("What each stage cost", rows, note, section=COST)
        machine = {key.replace("_gib", " (GiB)").replace("_", " "): value for key, value in facts["machine"].items()}
        seed = {"seed": facts["seed"]} if facts["seed"] is not None else {}
        made_on = {**seed, **machine, **facts["versions"]}
        self.add_table("What it ran on", [{"part": key, "value": str(value)} for key, value in made_on.items()],
                       f"All of it, and the configuration, is in {manifest.FILE} beside this page.", COST)  # fmt: skip
        if facts["dataset"]:
            data = facts["dataset"]
            cases = ", ".join(f"{count} {name}" for name, count in data["cases"].items() if count)
            text = f"{cases}; {data['files']} files, {data['bytes'] / 2**20:.1f} MiB; sha256 {data['sha256']}"
            self.add_text(f"Data set: {text} of dataset.json and the names and sizes of its files.", DATA)

    def write(self) -> Path:
        """Write report.html atomically and return its path."""
        sections = {name: list(blocks) for name, blocks in self._sections.items()}
        sections.setdefault(LIMITS, []).append(f"<p>{_escape(WARNING)}</p>")
        others = [name for name in sections if name not in ORDER]
        names = [name for name in (*ORDER[:-1], *others, LIMITS) if name in sections]
        blocks = [
            f'<section aria-labelledby="section-{number}"><h2 id="section-{number}">{_escape(name)}</h2>\n'
            + "\n".join(sections[name])
            + "\n</section>"
            for number, name in enumerate(names, start=1)
        ]
        links = [f'<li><a href="#section-{number}">{_escape(name)}</a></li>' for number, name in enumerate(names, 1)]
        page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=_escape(self.title),
            subtitle=_escape(f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
            navigation="\n".join(links),
            sections="\n".join(blocks),
            footer="This page is complete in itself: it loads nothing and may be kept, sent and printed.",
        )
        return write_atomic(self.path, page)

    def _add(self, section: str, block: str) -> None:
        self._sections.setdefault(section, []).append(block)


def format_value(value: Any) -> str:
    """Text of a table cell: three decimals (four digits where small), a dash for None and NaN."""
    if value is None:
        return "–"
    if isinstance(value, Integral) or not isinstance(value, Real):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return "–"
    return f"{number:.3f}" if number == 0 or 0.01 <= abs(number) < 10000 else f"{number:.3g}"


def format_seconds(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _escape(text: Any) -> str:
    lines = without_paths(str(text)).split("\n")  # a browser shows the end of a line as a space
    return html.escape("\n".join(map(printable, lines)), quote=True)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(r"<?\d+ %|–", value))
    return value is None or (isinstance(value, Real) and not isinstance(value, bool))
