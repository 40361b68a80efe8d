"""What every run does once its settings are checked: errors as plain lines, folders that can be written."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, plain_input_errors
from ..files.atomic_write import require_writable
from ..files.temporary import remove_leftovers
from .endings import plain_endings
from .words import path


def start(folders: Sequence[str] = ()) -> None:
    """Prepare the process; an item of `initialize` in a config, behind the line that makes `scripts` importable.

    Args:
        folders: made where they are missing, and rid of temporary files that kills have left; `~` is the home folder.

    Raises:
        InputError: one line for each folder that can't be written.
    """
    plain_input_errors()
    plain_endings()
    problems = []
    for folder in folders:
        try:
            require_writable(path(folder))
            remove_leftovers(path(folder))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
