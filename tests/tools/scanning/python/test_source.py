from __future__ import annotations

import hashlib

import pytest

from tools.scanning.findings import AllowList
from tools.scanning.python.modules import Modules
from tools.scanning.python.source import scan_python

PYTHON = {
    "names": {
        "json": ["loads"],
        "os": ["replace"],
        "sys": ["stderr", "excepthook ="],
        "torch": ["Tensor", "load(weights_only=True)"],
        "torch.nn": ["Module", "Linear"],
        "importlib.metadata": ["version"],
        "inspect": ["signature()"],
        "platform": ["system"],
    },
    "builtins": ["print", "getattr", "hasattr", "vars", "super", "len", "__name__"],
    "attributes": ["shape", "write"],
    "dunders": ["__name__"],
    "methods": ["__init__"],
}


def scan(source: str | bytes, path: str = "scripts/own.py", others: dict[str, str] | None = None, **more):
    source = source.encode() if isinstance(source, str) else source
    sources = {path: source, **{name: text.encode() for name, text in (others or {}).items()}}
    return list(scan_python(path, Modules(sources), AllowList(python={**PYTHON, **more})))


def refused(source: str | bytes, path: str = "scripts/own.py", **more) -> list[str]:
    return [finding.what for finding in scan(source, path, **more) if not finding.allowed]


@pytest.mark.parametrize(
    "source",
    [
        "import json, os\nfrom torch import nn\n\n\ndef f(p) -> nn.Module:\n    os.replace(p, json.loads('x'))\n",
        "from os import replace as move\nmove_it = lambda p: move(p, p)\n",
        "from importlib import metadata\nVERSION = metadata.version('x')\n",
        "import torch.nn as layers\nX = layers.Linear(1, 1).shape\n",
        "import platform\nNAME = platform.system()\n",
        "import sys\n\n\ndef f():\n    sys.stderr.write('x')\n    sys.excepthook = f\n",
        "import torch\nX = torch.load('x', map_location='cpu', weights_only=True)\n",
        "import inspect\nX = inspect.signature(len)\n",
        "class A:\n    def __init__(self):\n        super().__init__()\n",
        "class A:\n    def f(self):\n        return vars(self), hasattr(self, 'f')\n",
        "import os\nX = getattr(os, 'replace')\n",
        "def f(x):\n    match x:\n        case [a, *b] | {'k': a, **b}:\n            return a, b\n",
        "def f(x):\n    return [y for y in x if (z := y)], z, x.shape\n",
        "from __future__ import annotations\nX = __name__\n",
    ],
)
def test_what_is_listed_is_allowed(source):
    assert refused(source, names={**PYTHON["names"], "sys": ["stderr.write", "excepthook ="]}) == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import subprocess", "subprocess"),
        ("import torch.hub", "torch.hub"),
        ("from torch.utils import cpp_extension", "torch.utils"),
        ("from os import system", "os"),
        ("from json import *", "json.*"),
        ("from ..other import x", "..other"),
        ("import os\nx = os.remove", "os.remove"),
        ("import os as o\nx = [o]", "os"),
        ("import os as json\nimport json", "json: os, json"),
        ("from torch import nn\nx = nn", "torch.nn"),
        ("from torch import nn\nx = nn.functional", "torch.nn.functional"),
        ("from torch import nn\nx = nn.Module.forward", "torch.nn.Module.forward"),
        ("from torch import nn\nnn.Module = 1", "torch.nn.Module ="),
        ("from torch import nn\ndel nn.Module", "torch.nn.Module ="),
        ("import torch\nx = torch.load('x', **{'weights_only': True}, weights_only=True)", "torch.load"),
        ("import torch\nx = torch.load('x', weights_only=1)", "torch.load"),
        ("import torch\nload = torch.load", "torch.load"),
        ("from torch import load\nx = load", "torch.load"),
        ("import inspect\nx = inspect.signature(f, eval_str=True)", "inspect.signature"),
        ("import inspect\nx = inspect.signature", "inspect.signature"),
        ("x = eval", "eval"),
        ("x = open('x')", "open"),
        ("x = [getattr]", "getattr"),
        ("x = __builtins__", "__builtins__"),
        ("x = nothing", "nothing"),
        ("x = setattr(a, b, 1)", "setattr(a, b, 1)"),
        ("x = getattr(a, '__globals__')", ".__globals__"),
        ("x = a.f.__globals__", ".__globals__"),
        ("x = a.other", ".other"),
        ("x = a._os.remove", "._os"),
        ("x = vars(f())", "vars(f())"),
        ("x = super(A, b)", "super(A, b)"),
        ("x = b.__init__", ".__init__"),
        ("match x:\n    case A(other=y):\n        pass", ".other"),
        ("print('x')", "print('x')"),
        ("class A:\n    import os", "import os"),
        ("class A:\n    def __setstate__(self, s):\n        pass", "def __setstate__"),
        ("class A:\n    async def __reduce__(self):\n        pass", "def __reduce__"),
        ("class A:\n    __del__ = 1", "def __del__"),
    ],
)
def test_what_is_not_listed_is_refused(source, what):
    assert what in refused(source)


def test_a_name_is_followed_through_the_bundles_files():
    others = {
        "scripts/first.py": "import os\nfrom torch import nn as layers\n\n\nclass A:\n    size = 1\n",
        "scripts/room/second.py": "from ..first import layers, os as o\n",
        "scripts/room/__init__.py": "",
    }
    good = "from .first import A\nfrom .room.second import layers\nfrom .room import second as s\n"
    good += "x = layers.Linear, A().size, A.size, s.layers.Module\n"
    assert refused(good, others=others) == []
    for line, what in [
        ("from .room.second import o\nx = o.remove", "os.remove"),
        ("from .room import second\nx = second.o.remove", "os.remove"),
        ("from . import room\nx = room.second.layers.other", "torch.nn.other"),
        ("from .room import second\nx = second", "scripts.room.second"),
        ("from .room import third", "scripts.room.third"),
        ("from .first import B", "scripts.first.B"),
        ("from .first import A\nx = A.other", ".other"),
        ("from . import first\nfirst.A = 1", "scripts.first.A ="),
        ("from .first import A\nA.size = 1", "scripts.first.A.size ="),
    ]:
        assert what in refused(line, others=others), line


def test_attributes_of_ones_own_need_no_entry_but_those_that_run_or_write_do():
    source = "class A:\n    def {0}(self):\n        pass\n\n\ndef f(x):\n    return x.{0}\n"
    assert refused(source.format("own_thing")) == []
    for name in ("tofile", "system", "os", "unlink", "show", "_hidden"):
        assert f".{name}" in refused(source.format(name)), name
    assert refused("class A:\n    def f(self):\n        self._hidden = self._hidden\n") == []


def test_findings_name_the_line():
    (finding,) = [f for f in scan("import json\n\nx = eval\ny = eval\n") if not f.allowed]
    assert finding.where == "scripts/own.py:3"


def test_relative_imports_end_at_scripts():
    others = {"scripts/common/errors.py": "x = 1\n", "scripts/network.py": "x = 1\n"}
    assert refused("from ..errors import x", "scripts/common/sam/a.py", others=others) == []
    assert refused("from ...network import x", "scripts/common/sam/a.py", others=others) == []
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
    source = "import subprocess\nx = subprocess.run\ny = getattr(x, 'a' + 'b'), x.tb_frame\n"
    names = ["subprocess.run", "getattr(x, 'a' + 'b')", "tb_frame"]
    reviewed = {"scripts/carrier.py": {"sha256": hashlib.sha256(source.encode()).hexdigest(), "names": names}}
    assert refused(source, "scripts/carrier.py", reviewed=reviewed) == []
    assert refused(source, "scripts/other.py", reviewed=reviewed) != []
    changed = f"{source}# changed\n"
    found = refused(changed, "scripts/carrier.py", reviewed=reviewed)
    assert hashlib.sha256(changed.encode()).hexdigest() in found and "subprocess.run" in found
