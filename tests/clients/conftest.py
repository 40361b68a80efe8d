"""Pythons of the real clients: each client lives in an environment of its own, which `make test-clients` makes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients.environment import client_python, environment


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
    """`environment` of the clients' processes."""
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
