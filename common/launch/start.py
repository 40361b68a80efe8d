"""What every run does before all else: errors as plain lines, no mistyped override, folders that can be written."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, plain_input_errors
from ..files.atomic_write import require_writable
from .overrides import check_overrides
from .words import path


def start(folders: Sequence[str] = ()) -> None:
    """Prepare the process; an item of `initialize` in a config, behind the line that makes `scripts` importable.

    Args:
        folders: made where they are missing; `~` is the home folder.

    Raises:
        InputError: an override of the command line that names no key or says nothing that the key can be; a folder that
            can't be written. One line each.
    """
    plain_input_errors()
    check_overrides()
    problems = []
    for folder in folders:
        try:
            require_writable(path(folder))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
