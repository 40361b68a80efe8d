from __future__ import annotations

import hashlib

import pytest

from tools.scanning.findings import AllowList
from tools.scanning.python_source import defined_names, scan_python

PYTHON = {
    "imports": ["json", "torch", "torch.nn", "pathlib"],
    "names": ["os.replace", "sys.stderr", "importlib.metadata.version", "platform.system"],
    "dunders": ["__init__"],
    "calls": ["getattr(self, name)", "vars(self)"],
}


def scan(source: str | bytes, path: str = "scripts/own.py", **more):
    source = source.encode() if isinstance(source, str) else source
    return list(scan_python(path, source, AllowList(python={**PYTHON, **more})))


def refused(source: str | bytes, path: str = "scripts/own.py", **more) -> list[str]:
    return [finding.what for finding in scan(source, path, **more) if not finding.allowed]


@pytest.mark.parametrize(
    "source",
    [
        "import json, os\nfrom torch import nn\n\ndef f(p):\n    os.replace(p, json.loads('x'))\n",
        "from os import replace as move\nmove_it = lambda p: move(p, p)\n",
        "from importlib import metadata\nVERSION = metadata.version('x')\n",
        "import platform\nNAME = platform.system()\n",
        "import sys\n\ndef f():\n    sys.stderr.write('x')\n",
        "import torch\nX = torch.load('x', map_location='cpu', weights_only=True)\n",
        "def f(self, name):\n    super().__init__()\n    return getattr(self, name), vars(self), hasattr(self, 'x')\n",
        "from .common import errors\nfrom .common.errors import InputError\nNETWORK = errors.eval()\n",
        "import os\nhasattr_ok = getattr(os, 'replace')\n",
    ],
)
def test_what_is_listed_is_allowed(source):
    assert refused(source) == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import subprocess", "subprocess"),
        ("import torch.hub", "torch.hub"),
        ("from torch.utils import cpp_extension", "torch.utils"),
        ("from os import system", "os.system"),
        ("from json import *", "json.*"),
        ("from ..other import x", "..other"),
        ("import os\nx = os.remove", "os.remove"),
        ("import os as o\nx = [o]", "o"),
        ("import os as json\nimport json", "json: os, json"),
        ("import torch\nx = torch.hub.load", "torch.hub.load"),
        ("import torch\nx = torch.serialization.os", "torch.serialization.os"),
        ("import pathlib\nx = pathlib._os.remove", "pathlib._os.remove"),
        ("import json\nx = json.codecs.sys.modules", "json.codecs.sys.modules"),
        ("import torch\nx = torch.load('x', **{'weights_only': True}, weights_only=True)", "torch.load"),
        ("import torch\nload = torch.load", "torch.load"),
        ("from torch import load", "torch.load"),
        ("x = eval", "eval"),
        ("x = open('x')", "open"),
        ("x = [getattr]", "getattr"),
        ("x = __builtins__", "__builtins__"),
        ("x = setattr(a, b, 1)", "setattr(a, b, 1)"),
        ("x = getattr(a, '__globals__')", ".__globals__"),
        ("x = a.f.__globals__", ".__globals__"),
        ("x = a._os.remove", "._os"),
        ("x = vars(a)", "vars"),
        ("print('x')", "print('x')"),
        ("class A:\n    def __setstate__(self, s):\n        pass", "def __setstate__"),
        ("class A:\n    async def __reduce__(self):\n        pass", "def __reduce__"),
    ],
)
def test_what_is_not_listed_is_refused(source, what):
    assert what in refused(source)


def test_findings_name_the_line():
    (finding,) = [f for f in scan("import json\n\nx = eval\ny = eval\n") if not f.allowed]
    assert finding.where == "scripts/own.py:3"


def test_relative_imports_end_at_scripts():
    assert refused("from ..errors import x", "scripts/common/sam/a.py") == []
    assert refused("from ...network import x", "scripts/common/sam/a.py") == []
    assert refused("from ....other import x", "scripts/common/sam/a.py") == ["....other"]


@pytest.mark.parametrize(
    "source", [b"def", b"\xff", b"x = '\xe2\x80\xae'", b"# coding: latin-1\n", b"# coding: none\n", b"(" * 5000, b"x\0"]
)
def test_what_can_not_be_read_is_refused(source):
    assert refused(source)


def test_python_elsewhere_is_refused():
    assert refused("x = 1\n", "scipy/__init__.py") == ["scipy/__init__.py"]
    assert refused("x = 1\n", "configs/x.py") == ["configs/x.py"]


def test_a_reviewed_file_may_do_more_as_long_as_it_is_that_file():
    source = "import subprocess\nx = subprocess.run\n"
    review = {"sha256": hashlib.sha256(source.encode()).hexdigest(), "names": ["subprocess.run"]}
    reviewed = {"scripts/carrier.py": review}
    assert refused(source, "scripts/carrier.py", reviewed=reviewed) == []
    assert refused(source, "scripts/other.py", reviewed=reviewed) != []
    changed = f"{source}# changed\n"
    found = refused(changed, "scripts/carrier.py", reviewed=reviewed)
    assert hashlib.sha256(changed.encode()).hexdigest() in found and "subprocess" in found


def test_defined_names():
    source = (
        b"import os\nfrom .a import B as C\nfrom . import d\nfrom os import path\nclass E: pass\ndef f(): pass\nG = 1\n"
    )
    assert defined_names(source) == {"C": ".a.B", "E": "", "f": ""}
    assert defined_names(b"def") == {}
