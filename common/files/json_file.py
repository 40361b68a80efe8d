"""JSON of a user or another program: small and flat enough to be what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError

LARGEST = 64 << 20  # bytes; a thousand cases with all their slices' bits have a third of it
DEEPEST = 50  # brackets within brackets


def read_json(path: str | Path, wanted: str, name: str | None = None) -> Any:
    """Return the content of a JSON file in UTF-8.

    Args:
        wanted: what it should hold, for the line of what is wrong.
        name: of the file in that line; None: its path.

    Raises:
        InputError: missing, empty, too large, no JSON, nested too deeply, or a number of thousands of digits.
    """
    path = Path(path)
    name = name or str(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InputError(f"{name}: has {size / 2**20:.0f} MiB; wanted {wanted} of {LARGEST >> 20} MiB at most")
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise InputError(f"{name}: the file is empty; wanted {wanted}")
        content = json.loads(text)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error}); wanted {wanted}") from error
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{name}: not valid JSON (nested too deeply); wanted {wanted}") from error
    except ValueError as error:  # not UTF-8, not JSON, a number of too many digits
        raise InputError(f"{name}: not valid JSON ({error}); wanted {wanted}") from error
    if _is_deeper(content, DEEPEST):
        raise InputError(f"{name}: is nested over {DEEPEST} levels deep; wanted {wanted}")
    return content


def _is_deeper(content: Any, most: int) -> bool:
    level = [content]
    for _ in range(most):
        level = [child for value in level if isinstance(value, (dict, list)) for child in _children(value)]
        if not level:
            return False
    return any(isinstance(value, (dict, list)) for value in level)


def _children(value: dict | list) -> list:
    return list(value.values()) if isinstance(value, dict) else value
