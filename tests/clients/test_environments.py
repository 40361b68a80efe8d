"""What the clients' environments hold is what their constraints pin, so that the next one is the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tools.supply.lock_file import canonical


@pytest.mark.parametrize("client", ["monailabel", "nvflare", "deploy"])
def test_every_installed_package_is_pinned(client, request):
    python = request.getfixturevalue(f"{client}_python")
    command = [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    installed = {canonical(each["name"]): each["version"].partition("+")[0] for each in listed}
    del installed["pip"]  # the one of Python itself
    lines = Path(__file__).with_name(f"{client}_constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    assert {name: pinned.get(name) for name in installed} == installed
