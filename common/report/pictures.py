"""Scans of a page: a small picture that a click enlarges, and a line that says what is odd about it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from .tables import escape, folded

SMALL, LARGE = 420, 4000  # pixels, at most, of a picture's height


@dataclass(frozen=True)
class Card:
    """One scan: its heading, a line on it, and its picture, a PNG, where there is one.

    `alt` says what is seen, where heading and line don't; `badge` is a word or two beside the heading, which stands out
    where the scan is `marked` as one that wants a look.
    """

    title: str
    line: str
    picture: bytes | None = None
    alt: str = ""
    badge: str = ""
    marked: bool = False


def cards(items: Sequence[Card], first: int, level: int = 3) -> str:
    """Return scans in their order: those with a picture as cards, the others a line each, folded.

    Args:
        first: number of the first picture on the page.
        level: of the headings.
    """
    shown = [item for item in items if item.picture is not None]
    rest = [item for item in items if item.picture is None]
    blocks = []
    if shown:
        inside = "\n".join(_card(item, f"picture-{first + number}", level) for number, item in enumerate(shown))
        blocks.append(f'<ul class="cards">\n{inside}\n</ul>')
    if rest:
        lines = "\n".join(
            f"<li><strong>{escape(item.title)}</strong>{_badge(item)}: {escape(item.line)}</li>" for item in rest
        )
        count = f"{len(rest)} scan{'s' if len(rest) != 1 else ''}, a line each"
        blocks.append(folded(f"The other {count}" if shown else count, f"<ul>\n{lines}\n</ul>"))
    return "\n".join(blocks)


def _card(item: Card, name: str, level: int) -> str:
    heading, line, alt = escape(item.title), escape(item.line), escape(item.alt or f"{item.title}: {item.line}")
    assert item.picture is not None
    return (
        f'<li class="card"><button type="button" class="enlarge" popovertarget="{name}" '
        f'aria-label="Enlarge the picture of {heading}"><img alt="" src="{_uri(item.picture, SMALL, 80)}"></button>\n'
        f"<h{level}>{heading}{_badge(item)}</h{level}>\n<p>{line}</p>\n"
        f'<div class="large" id="{name}" popover role="dialog" aria-label="{heading}">'
        f'<p><button type="button" popovertarget="{name}" popovertargetaction="hide" autofocus>Close</button> '
        f'<strong>{heading}</strong>: {line}</p><img alt="{alt}" src="{_uri(item.picture, LARGE, 90)}"></div></li>'
    )


def _badge(item: Card) -> str:
    return f' <span class="badge{" marked" * item.marked}">{escape(item.badge)}</span>' if item.badge else ""


def _uri(png: bytes, longest: int, quality: int) -> str:
    """Return a picture as JPEG, a third of the bytes and more, at most so many pixels high and twice as many wide.

    What can't be read as a picture is kept as it is.
    """
    try:
        image = Image.open(io.BytesIO(png)).convert("RGB")
    except UnidentifiedImageError:
        return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    image.thumbnail((2 * longest, longest))
    file = io.BytesIO()
    image.save(file, format="jpeg", quality=quality, subsampling=0)  # coloured lines stay sharp
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
