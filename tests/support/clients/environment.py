"""Pythons of the real clients, and the environment variables that their processes get."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# whether a client can be imported is seen by the tests themselves: a broken environment fails, it is no skip
VARIABLES = {"monailabel": "MONAILABEL_PYTHON", "nvflare": "NVFLARE_PYTHON", "deploy": "DEPLOY_PYTHON"}
LEADS_HERE = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def client_python(client: str, target: str = "make test-clients") -> Path:
    """The Python that has `client` installed; skips where its variable is not set, fails where it names no file."""
    variable = VARIABLES[client]
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"{variable} is not set: run `{target}`, or set it to a Python that has {client}")
    # not resolved: a virtual environment's python is a link, and the link is what makes it that environment
    python = Path(os.path.abspath(given))
    if not python.is_file():
        pytest.fail(f"{variable}={given}: no such file", pytrace=False)
    return python


def environment(python: Path, **extra: str) -> dict[str, str]:
    """Environment variables for a client's process: nothing that leads to this repository, one thread, `extra` last."""
    kept = {name: value for name, value in os.environ.items() if name not in LEADS_HERE}
    kept["PATH"] = os.pathsep.join((str(python.parent), kept.get("PATH", os.defpath)))
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"} | extra
