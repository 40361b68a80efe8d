"""Pythons of the real clients: each client lives in an environment of its own, which `make test-clients` makes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

# whether a client can be imported is seen by the tests themselves: a broken environment fails, it is no skip
VARIABLES = {"monailabel": "MONAILABEL_PYTHON", "nvflare": "NVFLARE_PYTHON", "deploy": "DEPLOY_PYTHON"}
LEADS_HERE = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def client_python(client: str) -> Path:
    """The Python that has `client` installed; skips where its variable is not set, fails where it names no file."""
    variable = VARIABLES[client]
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"{variable} is not set: run `make test-clients`, or set it to a Python that has {client}")
    # not resolved: a virtual environment's python is a link, and the link is what makes it that environment
    python = Path(os.path.abspath(given))
    if not python.is_file():
        pytest.fail(f"{variable}={given}: no such file", pytrace=False)
    return python


@pytest.fixture(scope="session")
def monailabel_python() -> Path:
    return client_python("monailabel")


@pytest.fixture(scope="session")
def nvflare_python() -> Path:
    return client_python("nvflare")


@pytest.fixture(scope="session")
def deploy_python() -> Path:
    return client_python("deploy")


@pytest.fixture(scope="session")
def client_environment() -> Callable[..., dict[str, str]]:
    """Environment variables for a client's process: nothing that leads to this repository, one thread, `extra` last."""

    def environment(python: Path, **extra: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in LEADS_HERE}
        kept["PATH"] = os.pathsep.join((str(python.parent), kept.get("PATH", os.defpath)))
        return kept | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"} | extra

    return environment


@pytest.fixture(scope="session")
def packed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a bundle, by name, as it arrives at another site: `support.bundle.packed`. Read only."""
    from support.bundle.packed import GRID, unpacked_bundle

    folder = tmp_path_factory.mktemp("packed")
    return functools.cache(lambda name: unpacked_bundle(name, folder / name, GRID))


@pytest.fixture
def federate(nvflare_python, client_environment, tmp_path) -> Callable[..., tuple[Path, str, int]]:
    """`federation.federate` with NVFLARE's Python, in a folder of its own."""
    from support.clients.federation import federate

    return functools.partial(
        federate, python=nvflare_python, folder=tmp_path / "federated", environment=client_environment
    )
