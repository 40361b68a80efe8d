"""What every run does before all else: errors as plain lines, no mistyped override, folders that can be written."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, plain_input_errors
from ..files.atomic_write import require_writable
from ..files.temporary import remove_leftovers
from .endings import plain_endings
from .overrides import check_overrides
from .words import path


def start(folders: Sequence[str] = ()) -> None:
    """Prepare the process; an item of `initialize` in a config, behind the line that makes `scripts` importable.

    Args:
        folders: made where they are missing, and rid of temporary files that kills have left; `~` is the home folder.

    Raises:
        InputError: an override of the command line that names no key or says nothing that the key can be; a folder that
            can't be written. One line each.
    """
    plain_input_errors()
    plain_endings()
    check_overrides()
    problems = []
    for folder in folders:
        try:
            require_writable(path(folder))
            remove_leftovers(path(folder))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
