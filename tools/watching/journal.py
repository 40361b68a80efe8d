"""A log that holds no patient's name: what isn't written by `Journal` reaches neither screen nor file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

from common.errors import printable


class Journal:
    """Write lines with their time, in UTC.

    Args:
        stream: to write to.
        part: put before each line, where there are several; empty for none.
    """

    def __init__(self, stream: TextIO, part: str = "") -> None:
        self.stream, self.part = stream, f"{part} " if part else ""

    def note(self, text: str) -> None:
        """Write one line; a stream that nobody reads any more ends nothing."""
        with contextlib.suppress(OSError, ValueError):
            print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {self.part}{printable(text)}", file=self.stream, flush=True)


@contextlib.contextmanager
def only_journal(part: str = "") -> Iterator[Journal]:
    """Yield a journal on standard output, and drop whatever else would be printed, that of C libraries included.

    A library's warning may hold a header's entry or a file's name. Standard output and error are as before afterwards.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        own = sys.stdout.fileno() == 1
    except (OSError, ValueError):  # a test's
        own = False
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stream = stack.enter_context(os.fdopen(os.dup(1), "w", encoding="utf-8")) if own else sys.stdout
        try:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield Journal(stream, part)
        finally:
            for number, copy in enumerate(kept, start=1):
                os.dup2(copy, number)
                os.close(copy)
