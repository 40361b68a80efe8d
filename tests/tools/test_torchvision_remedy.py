from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tools.torchvision_remedy import MODULE, apply, main

# as torchvision does: what it says about its operators needs their names, which a compiled library declares
NEEDS_OPERATORS = """
import torch
for name in ("nms", "qnms"):
    torch.library.register_fake(f"torchvision::{name}")(lambda dets, scores, threshold: dets)
"""


@pytest.fixture
def python(tmp_path) -> Path:
    """Python of an environment with this one's packages; torchvision is what a test writes into its folder."""
    venv.create(tmp_path / "environment", with_pip=False)
    (packages(tmp_path) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path / "environment" / "bin" / "python"


def packages(folder: Path) -> Path:
    return next((folder / "environment" / "lib").iterdir()) / "site-packages"


def write_torchvision(folder: Path, code: str) -> None:
    package = packages(folder) / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(code)
    (package / "_C.so").write_bytes(b"built for another torch")


@pytest.mark.skipif(sys.platform == "win32", reason="the layout of the environment is that of POSIX")
def test_torchvision_that_lacks_its_operators_can_be_imported_afterwards(python, tmp_path, capsys):
    write_torchvision(tmp_path, NEEDS_OPERATORS)
    assert main([str(python)]) == 0 and "can be imported now" in capsys.readouterr().out
    assert main([str(python)]) == 0 and "nothing done" in capsys.readouterr().out
    done = subprocess.run(
        [str(python), "-c", "import sys; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"  # nothing is loaded before torchvision is asked for


def test_where_torchvision_works_nothing_is_written(python, tmp_path):
    write_torchvision(tmp_path, "")
    assert apply(python) is False and not list(packages(tmp_path).glob(f"{MODULE}*"))


def test_another_fault_is_told_and_nothing_is_written(python, tmp_path, capsys):
    write_torchvision(tmp_path, "raise ImportError('something else')")
    assert main([str(python)]) == 1 and "something else" in capsys.readouterr().err
    assert main([str(tmp_path / "nobody")]) == 1
    assert not list(packages(tmp_path).glob(f"{MODULE}*"))
