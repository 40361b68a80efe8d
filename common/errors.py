"""What a user did wrong, said in plain lines instead of a traceback."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable
from typing import cast


class InputError(ValueError):
    """Bad input; every problem is one line that names the file, the value found and the value wanted."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def find_input_error(error: BaseException | None) -> InputError | None:
    """Return the InputError in the chain of causes of `error`, or None.

    MONAI wraps whatever a config expression raises. The class is compared by name, because a packed bundle and the
    repository import this file under two names.
    """
    while error is not None:
        if type(error).__name__ == InputError.__name__:
            return cast(InputError, error)
        error = error.__cause__ or error.__context__
    return None


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
