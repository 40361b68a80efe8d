"""The hospital that all tests here share, and a viewer in it; both skip where a part of them is not on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clients.environment import client_python

NEEDS = "needs tests/hospital/requirements.txt: run `make test-hospital`"


@pytest.fixture(scope="session")
def hospital(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium", reason=NEEDS)
    pytest.importorskip("dicomweb_client", reason=NEEDS)
    from support.hospital import archive, site, viewer
    from tools.torchvision_remedy import apply

    lacking = [*archive.missing(), *viewer.missing()]
    if lacking:
        pytest.skip(f"not on this machine: {', '.join(lacking)} (apt-get install {' '.join(lacking)})")
    python = client_python("monailabel", "make test-hospital")
    apply(python)
    with site.run_hospital(python, tiny_cohort, tmp_path_factory.mktemp("hospital")) as running:
        yield running


@pytest.fixture
def ohif(hospital: Any, tmp_path: Path) -> Iterator[Any]:
    from support.hospital.viewer import open_viewer

    with open_viewer(hospital.server.address, tmp_path / "downloads") as opened:
        yield opened
