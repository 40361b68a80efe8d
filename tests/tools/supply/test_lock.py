from __future__ import annotations

import hashlib
import os
import sys

import pytest

from common.errors import InputError
from tools.lock import add_builds, renew
from tools.supply.lock_file import CUDA_LOCK, LOCK, Pin, read_lock

A, B, C = "a" * 64, "b" * 64, "c" * 64
# stands for uv: notes what it was asked and answers with three packages
FAKE = f"""#!{sys.executable}
import pathlib, sys
given = sys.argv[1:]
output = pathlib.Path(given[given.index("--output-file") + 1])
pathlib.Path(__file__).with_name("asked").write_text(repr((given, output.exists() and output.read_text())))
output.write_text('''torch==2.0 \\\\
    --hash=sha256:{A}
nvidia-cublas==1 ; sys_platform == 'linux' \\\\
    --hash=sha256:{B}
Jinja2==3 \\\\
    --hash=sha256:{C}
''')
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text(FAKE)
    (tmp_path / "bin" / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return tmp_path


def test_cuda_stands_by_itself_and_other_builds_stay(root):
    wheel = root / "torch-2.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    wheel.write_bytes(b"build")
    own = hashlib.sha256(b"build").hexdigest()
    assert len(renew(root, builds=[wheel])) == 3
    assert "--universal" in (root / "bin" / "asked").read_text()
    torch = Pin("torch", "2.0", "", frozenset([A, own]))
    assert read_lock(root / LOCK) == [Pin("jinja2", "3", "", frozenset([C])), torch]
    assert read_lock(root / CUDA_LOCK) == [Pin("nvidia-cublas", "1", "sys_platform == 'linux'", frozenset([B]))]
    renew(root)
    assert torch in read_lock(root / LOCK)
    assert own in (root / "bin" / "asked").read_text()  # the versions that were are preferred
    renew(root, upgrade=True)
    assert own not in (root / "bin" / "asked").read_text() and torch in read_lock(root / LOCK)


def test_a_build_of_another_version_is_refused(tmp_path):
    wheel = tmp_path / "torch-3.0+cpu-cp311-cp311-linux_x86_64.whl"
    wheel.touch()
    with pytest.raises(InputError, match=r"found torch 3\.0; wanted"):
        add_builds([Pin("torch", "2.0", "", frozenset([A]))], [wheel])


def test_without_uv_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="uv: not found; wanted"):
        renew(tmp_path)
