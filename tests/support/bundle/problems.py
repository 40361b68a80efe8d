"""What a run that MONAI has wrapped was refused for."""

from __future__ import annotations

import pytest

from common.errors import find_input_error


def problems_of(error: pytest.ExceptionInfo) -> list[str]:
    """Return the lines of the InputError among the causes."""
    found = find_input_error(error.value)
    assert found is not None, error.value
    return found.problems
