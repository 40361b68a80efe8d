"""Tables of a page, and its words: escaped, readable numbers, heads that say what they head."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from ..errors import printable
from ..run.folders import without_paths

LONG = 8  # rows; longer tables are folded
PENALTY = "†"
Rows = Sequence[Mapping[str, Any]]


def escape(text: Any) -> str:
    """Return text for a page: no markup, no control characters, paths shortened to their last part."""
    lines = without_paths(str(text)).split("\n")  # a browser shows the end of a line as a space
    return html.escape("\n".join(map(printable, lines)), quote=True)


def plain_text(text: Any) -> str:
    """Return text as `escape` does for what escapes markup by itself."""
    return html.unescape(escape(text))


def paragraphs(text: str) -> str:
    """Return <p> for each part of a text; an empty line parts."""
    return "\n".join(f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def points(texts: Sequence[str]) -> str:
    """Return a <ul>."""
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"


def folded(summary: str, block: str) -> str:
    """Return a block that a click opens."""
    return f"<details><summary>{escape(summary)}</summary>\n{block}\n</details>"


def table(name: str, title: str, rows: Rows, note: str | None = None, fold: bool | None = None) -> str:
    """Return a table; its columns are the keys of all rows in the order they come, the first one heads the row.

    Floats are shown with three decimals; None and NaN, which mean that there is no such number, as a dash.

    Args:
        name: its id on the page.
        fold: whether it opens by a click; None: where it has more than `LONG` rows.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return f"<p><strong>{escape(title)}</strong>: none.</p>"
    fold = len(rows) > LONG if fold is None else fold
    right = {key for key in columns[1:] if all(_is_number(row.get(key)) for row in rows)}
    sides = {key: ' class="number"' if key in right else "" for key in columns}
    head = "".join(f'<th scope="col"{sides[key]}>{escape(key)}</th>' for key in columns)
    lines = []
    for row in rows:
        first = f'<th scope="row">{escape(format_value(row.get(columns[0])))}</th>'
        rest = "".join(f"<td{sides[key]}>{escape(format_value(row.get(key)))}</td>" for key in columns[1:])
        lines.append(f"<tr>{first}{rest}</tr>")
    body, unseen = "\n".join(lines), ' class="unseen"' if fold else ""  # what is folded is headed by what opens it
    block = (
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0"><table>'
        f'<caption id="{name}"{unseen}>{escape(title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )
    block += f'\n<p class="note">{escape(note)}</p>' if note else ""
    return folded(f"{title} ({len(rows)} row{'s' if len(rows) != 1 else ''})", block) if fold else block


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


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(rf"<?\d+ %|–|[\d.]+ {PENALTY}", value))
    return value is None or (isinstance(value, Real) and not isinstance(value, bool))


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN of nothing."""
    return sum(values) / len(values) if values else math.nan
