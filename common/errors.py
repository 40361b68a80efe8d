"""What a user did wrong, said in plain lines instead of a traceback."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import cast

# how torch passes on what was raised in a process that loads data: the class, made anew of one text
_FROM_WORKER = re.compile(r"Caught InputError in .*\nOriginal Traceback.*InputError: (.*)", re.DOTALL)

_NO_MEMORY = re.compile(r"not enough memory|(can't|cannot) allocate memory|out of memory", re.IGNORECASE)


def printable(text: object) -> str:
    """Return a text as one line that a terminal takes no command from, whatever file its words came from.

    What is no printable character becomes its escape (\\n, \\x1b, \\u202e): ends of lines and escape sequences, which
    would write lines that nobody said, and marks that turn the direction of reading.
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    return "".join(shown)


class InputError(ValueError):
    """Bad input; every problem is one line, `printable`, that names the file, the value found and the value wanted."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        if isinstance(problems, str):
            raised = _FROM_WORKER.fullmatch(problems)
            problems = raised[1].rstrip("\n").split("\n") if raised else [problems]
        self.problems = [printable(line) for line in problems]
        super().__init__(self.problems)  # what it is made of anew where it is copied to another process

    def __str__(self) -> str:
        return "\n".join(self.problems)


def find_input_error(error: BaseException | None) -> InputError | None:
    """Return the InputError in the chain of causes of `error`, or None.

    MONAI wraps whatever a config expression raises. The class is compared by name, because a packed bundle and the
    repository import this file under two names.
    """
    found = (one for one in causes(error) if type(one).__name__ == InputError.__name__)
    return cast("InputError | None", next(found, None))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, what that was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def wants_memory(error: BaseException) -> bool:
    """Return whether an error is one of too little memory: Python's, or torch's for a processor or a GPU."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def wants_gpu_memory(error: BaseException) -> bool:
    """Return whether it is a GPU's: it alone is "out of memory", as torch puts it."""
    return "out of memory" in str(error).lower()


def plain_input_errors() -> None:
    """Let an uncaught InputError end the process with its lines alone, status 1, and leave other errors as they are.

    MONAI's word on a decoder for GPUs that nobody asked for is left out too: where pydicom is installed, every image
    loader that is made says that the decoder is not there.
    """
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader", category=UserWarning)
    previous = sys.excepthook

    def hook(kind, error, trace) -> None:
        found = find_input_error(error)
        if found is None:
            previous(kind, error, trace)
            return
        for line in found.problems:
            print(f"error: {line}", file=sys.stderr)

    sys.excepthook = hook
