"""A real browser without a window, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
MEASURE = """<script>addEventListener('load', () => {
 const root = document.documentElement, wide = root.scrollWidth, view = root.clientWidth;
 const beyond = e => e.getBoundingClientRect().right > view + 1 || e.getBoundingClientRect().left < -1;
 const all = (what) => [...document.querySelectorAll(what)];
 const out = all('main *, header *').filter(e => !e.closest('.scroll, [popover], svg, .unseen'))
   .filter(e => e.getClientRects().length && beyond(e)).map(e => e.tagName + '.' + e.className);
 const over = all('svg text').filter(beyond).map(e => e.textContent);
 const first = document.querySelector('.enlarge');
 let open = 'none';
 if (first) {
   first.click();
   const big = document.querySelector(':popover-open');
   open = big ? Math.round(big.getBoundingClientRect().width) + ' ' + document.activeElement.textContent : 'closed';
 }
 document.title = JSON.stringify({wide, view, out, over, open});
});</script>"""


def browser() -> str:
    """Return the browser's program; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs a browser on PATH: {' or '.join(NAMES)}")
    return found


def measured(page: Path, width: int, folder: Path) -> str:
    """Return what `MEASURE` finds on a page in a window of that width, as JSON; the page's policy is taken out."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    copy = folder / f"measured_{width}.html"
    copy.write_text(text.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    command = [browser(), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
               f"--window-size={width},900", "--dump-dom", "--virtual-time-budget=4000", copy.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return found[1]
