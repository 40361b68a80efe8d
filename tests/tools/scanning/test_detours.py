"""Detours around a look at names: each is real, and each is refused for what it is, in a bundle that is clean else."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest

from support.data.written_files import write_files
from tools.scan import scan
from tools.scanning.findings import read_allow_list

ALLOW = read_allow_list()
NETWORK = "import torch\n\n\nclass Segmenter(torch.nn.Module):\n    pass\n"
WRITER = "import os\n\n\ndef write(path, data):\n    with open(path, 'wb') as file:\n        file.write(data)\n"
FETCHER = "from contextlib import contextmanager\n\n\n@contextmanager\ndef fetch(requirement):\n    yield requirement\n"
HANDLER = "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=f\n[logger_root]\nhandlers=h\n[handler_h]\n"
HANDLER += "class=StreamHandler\nargs=(sys.stdout,)\n"


def config(**content) -> dict[str, str]:
    return {"configs/evil.json": json.dumps(content)}


def value(text: str, **more) -> dict[str, str]:
    return config(output_dir=f"${text}", **more)


def script(text: str, **more: str) -> dict[str, str]:
    return {"scripts/evil.py": text, **{f"scripts/{name}.py": content for name, content in more.items()}}


def target(name: str, source: str = "", listed: bool = True) -> dict[str, str]:
    """A `_target_`, and a file that defines it; under the name of one that our list holds."""
    path = f"{name.rpartition('.')[0].replace('.', '/')}.py"
    return {**config(x={"_target_": name}), **({path: source} if source else {})}


def scripted(code: str) -> dict[str, bytes]:
    buffer = io.BytesIO()
    members = {"data.pkl": b"\x80\x02}.", "constants.pkl": b"\x80\x02).", "code/a.py": code.encode()}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return {"models/model.ts": buffer.getvalue()}


class Payload:
    def __reduce__(self):
        return print, ("x",)


def archive(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"x")
    return buffer.getvalue()


PNG = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"

TARGETS = {
    "own function that is on no list": target("scripts.evil.anything", "def anything(x):\n    return x\n"),
    "own writer": target(
        "scripts.common.files.atomic_write.write_atomic", WRITER.replace("write(", "write_atomic(", 1)
    ),
    "listed name that writes": target("scripts.network.slice_size", WRITER.replace("def write", "def slice_size")),
    "listed class that writes when it is built": target(
        "scripts.network.Specialist",
        "class Specialist:\n    def __init__(self, path, text):\n        path.write_text(text)\n",
    ),
    "own fetcher": target("scripts.common.sam.weights.carrier.fetch", FETCHER),
    "listed name of a context manager": target("scripts.network.slice_size", FETCHER.replace("fetch", "slice_size")),
    "listed name of a class that is entered": target(
        "scripts.network.Specialist", "class Specialist:\n    def __enter__(self):\n        return self\n"
    ),
    "listed name that is passed on from outside": target(
        "scripts.network.slice_size", "from monai.utils import optional_import as slice_size\n"
    ),
    "listed name that is a value": target("scripts.network.slice_size", "slice_size = print\n"),
    "method of a listed class": target("scripts.network.Segmenter.load_state_dict"),
    "any optimiser": config(x={"_target_": "torch.optim.Optimizer"}),
    "partial": config(x={"_target_": "Compose", "_mode_": "partial"}),
    "by expression": config(x={"_target_": "$'os' + '.system'"}),
    "by reference": config(f="os.system", x={"_target_": "@f"}),
    "by macro of another file": config(x={"_target_": "%other.json::f"}),
    "merged imports": config(**{"+imports": ["$import subprocess"]}),
    "required, with what happens then": config(x={"_target_": "Compose", "_requires_": "$print('x')"}),
}

VALUES = {
    "sum with nothing": value("'' + '/x'"),
    "sum with a reference to nothing": value("@bundle_root + '/models'", bundle_root=""),
    "sum of references": value("@a + @b", a="x", b="y"),
    "part of a text": value("'x/etc'[1:]"),
    "part of a reference": value("@a[1:]", a="x/etc"),
    "end of a reference": value("@channels[-1]", channels="x/"),
    "the largest": value("max(['/x'])"),
    "either": value("(False or '/x')"),
    "if": value("'/x' if True else 'y'"),
    "joined": value("'/'.join(['', 'x'])"),
    "formatted": value("'%s' % '/x'"),
    "formatted by name": value("'{}'.format('/x')"),
    "formatted in place": value("f'{chr(47)}x'"),
    "repeated": value("@epoch_length * @batch_size", epoch_length=".", batch_size=2),
    "walrus": value("(p := '/x')"),
    "of a comprehension": value("[p for p in ['/x']][0]"),
    "of a lambda": value("(lambda p='/x': p)()"),
    "bytes": value("b'/x'.decode()"),
    "in a list of a list": config(x=[["$'' + '/x'"]]),
    "next to a listed one": value("@bundle_root + '/models' + '/../../x'"),
    "turned round": value("'x/'[::-1]"),
    "a number as a sign": value("chr(47)"),
    "argument of a reference": value("@a.run('/x')"),
    "a folder of the folder": config(output_dir="x/./../y"),
}

DETOURS = {
    "_create_fn": script("import dataclasses\nf = dataclasses._create_fn('f', [], ['print(1)'])\n"),
    "make_dataclass": script("from dataclasses import make_dataclass\nA = make_dataclass('A', ['x'])\n"),
    "torch.fx": script("import torch.fx\nm = torch.fx.GraphModule({}, torch.fx.Graph())\n"),
    "torch.fx under another name": script("from torch import fx as nn\nm = nn.GraphModule({}, nn.Graph())\n"),
    "optional_import": script("from monai.utils import optional_import\nos, _ = optional_import('os')\n"),
    "optional_import passed on": script("from monai.transforms.utils import optional_import as x\ny = x('os')\n"),
    "nibabel.optpkg": script("from nibabel.optpkg import optional_package\nos, *_ = optional_package('os')\n"),
    "nibabel.optpkg as an attribute": script("import nibabel as nib\nos = nib.optpkg.optional_package('os')\n"),
    "PIL.ImageShow": script("from PIL import ImageShow\nx = ImageShow.register\n"),
    "show of a picture": script(
        "from PIL import Image\n\n\nclass A:\n    def show(self):\n        pass\n\n\nx = Image.fromarray([]).show()\n"
    ),
    "alias of a module": script("from torch import nn\nn = nn\nx = n.modules\n"),
    "alias of a submodule": script("import torch.nn.functional as F\nf = F\n"),
    "import as": script("import numpy.lib.npyio as np\nx = np.os.system\n"),
    "module in a pattern": script(
        "import random\n\n\ndef f():\n    match random:\n        case object(_os=o):\n            o.system('x')\n"
    ),
    "attribute in a pattern": script(
        "def f(g):\n    match g:\n        case object(__globals__=x):\n            return x\n"
    ),
    "module as a default": script("from torch import hub\n\n\ndef f(h=hub):\n    return h.load('x')\n"),
    "module as a lambda's default": script("import os\nf = lambda o=os: o.system('x')\n"),
    "module in a list": script("import os\nx = [o.system for o in [os]]\n"),
    "module by walrus": script("import os\nx = (o := os).system\n"),
    "module in a tuple": script("import os\na, b = os, 1\nx = a.system\n"),
    "module by with": script("import os\nwith os as o:\n    o.system('x')\n"),
    "module of a class": script("class A:\n    import os\n\n\nx = A.os.system('x')\n"),
    "module of a class under our name": script(
        "class A:\n    from torch import hub as grid\n    load = None\n\n\nx = A.grid.load('x')\n"
    ),
    "module through another file": script("from .first import os as o\nx = o.system('x')\n", first="import os\n"),
    "module through two files": script(
        "from . import second\nx = second.o.system('x')\n", second="from .first import o\n", first="import os as o\n"
    ),
    "module of another file": script("from . import first\nx = first.os.system('x')\n", first="import os\n"),
    "file as a value": script("from . import first\nx = [first]\n", first="import os\n"),
    "name that no file defines": script("from .first import system\n", first="import os\n"),
    "everything of another file": script("from .first import *\n", first="import os\n"),
    "another file's value changed": script(
        "from .common.sam.weights import carrier\ncarrier._STUB_BACKEND = 'evil'\n",
        **{"common/sam/weights/carrier": "_STUB_BACKEND = ''\n"},
    ),
    "a library's function changed": script("import json\njson.loads = print\n"),
    "a library's function changed by setattr": script("import json\nx = setattr(json, 'loads', print)\n"),
    "out of the bundle": script("from ..other import x\n"),
    "getattr of a sum": script("import os\nx = getattr(os, 'sys' + 'tem')\n"),
    "getattr of an f-string": script("x = getattr(print, f'__{1}__')\n"),
    "getattr of names that ours had": script("s, part = print, '__self__'\nx = getattr(s, part)\n"),
    "getattr as a value": script("x = list(map(getattr, [print], ['__self__']))\n"),
    "getattr with stars": script("import os\nx = getattr(*[os, 'system'])\n"),
    "getattr as another's name": script("from torch import load as getattr\nx = getattr('x', 'y')\n"),
    "vars of a module": script("import os\nx = vars(os)['system']\n"),
    "super of another class": script("class A(dict):\n    def f(self):\n        return super(dict, self).f()\n"),
    "classes above": script("x = type(1).__mro__[0]\n"),
    "reader by name": script("from monai.transforms import LoadImage\nx = LoadImage('os.system')\n"),
    "reader by name, passed on": script(
        "from .first import LoadImage as L\nx = L('os.system')\n", first="from monai.transforms import LoadImage\n"
    ),
    "annotations that are evaluated": script("import inspect\nx = inspect.signature(print, eval_str=True)\n"),
    "annotations through a list": script("import inspect\nx = inspect.signature(*[print])\n"),
    "torch.load as a value": script("import torch\nf = torch.load\n"),
    "decorator": script("import atexit, os\n\n\n@os.register_at_fork\ndef f():\n    pass\n"),
    "class base": script("import string\n\n\nclass A(string.Formatter):\n    pass\n"),
    "metaclass": script("import ctypes\n\n\nclass A(metaclass=ctypes.Structure):\n    pass\n"),
    "__class_getitem__": script("class A:\n    def __class_getitem__(cls, x):\n        return x\n"),
    "__getattr__ of a module": script("def __getattr__(name):\n    return name\n"),
    "__reduce__ by assignment": script("class A:\n    __reduce__ = print\n"),
    "f-string": script("import os\nx = f'{os.system(1)}'\n"),
    "builtin that ours don't use": script("x = memoryview(b'x')\n"),
    "builtin under a name that is bound elsewhere": script(
        "def f():\n    eval = 1\n    return eval\n\n\nx = eval('1')\n"
    ),
    "frames": script("def f():\n    yield\n\n\nx = f().gi_frame.f_builtins\n"),
    "an attribute that ours don't use": script("import numpy as np\nx = np.zeros(1).tofile('x')\n"),
    "the same, defined by the bundle": script(
        "import numpy as np\n\n\nclass A:\n    def tofile(self):\n        pass\n\n\nx = np.zeros(1).tofile('x')\n"
    ),
}

FILES = {
    "blank in TorchScript": scripted("y = torch . save(x, 'y')\n"),
    "line break in TorchScript": scripted("y = (torch.\n    save(x, 'y'))\n"),
    "backslash in TorchScript": scripted("y = torch.\\\n  save(x, 'y')\n"),
    "comment in TorchScript": scripted("y = (torch. # x\n  # y\n  _save(x))\n"),
    "getattr in TorchScript": scripted("y = getattr(torch, 'save')(x, 'y')\n"),
    "text that isn't one in TorchScript": scripted("y = r'\\'; torch.save(x, 'y')  # '\n"),
    "another library in TorchScript": scripted("y = ops . evil . run(x)\n"),
    "defaults of a formatter": {"configs/logging.conf": HANDLER + "[formatter_f]\ndefaults={'a': print(1)}\n"},
    "class of a formatter": {"configs/logging.conf": HANDLER + "[formatter_f]\nclass=os.system\n"},
    "option that isn't known": {"configs/logging.conf": HANDLER + "target=x\n"},
    "script in a page": {"scripts/common/report/template.html": "<p>$x</p><script>alert(1)</script>"},
    "script of another place": {"scripts/common/report/template.html": "<SCRIPT/src=//example.org/x></SCRIPT>"},
    "handler in a page": {"scripts/common/report/template.html": "<img src='x' onerror='alert(1)'>"},
    "address that runs": {"scripts/common/report/template.html": "<a href='java\nscript:alert(1)'>x</a>"},
    "frame in a page": {"scripts/common/report/template.html": "<iframe srcdoc='x'></iframe>"},
    "picture of another place": {"scripts/common/report/template.html": "<img src='https://example.org/x.png'>"},
    "style of another place": {"scripts/common/report/template.html": "<style>@import 'https://x.org';</style>"},
    "tag from outside": {"scripts/common/report/template.html": "<$tag onload=alert(1)>"},
    "comment in a page": {"scripts/common/report/template.html": "<!--><script>alert(1)</script>-->"},
    "refresh of a page": {"scripts/common/report/template.html": "<meta http-equiv=refresh content='0;url=//x.org'>"},
    "script in a document": {"docs/README.md": "# A\n\n<script>alert(1)</script>\n"},
    "pickle of protocol 0": {"docs/notes.txt": pickle.dumps(Payload(), 0)},
    "pickle of protocol 1": {"docs/notes.txt": pickle.dumps(Payload(), 1)},
    "pickle of protocol 2": {"docs/notes.md": pickle.dumps(Payload(), 2)},
    "pickle of protocol 5": {"LICENSE": pickle.dumps(Payload(), 5)},
    "pickle as a picture": {"docs/picture.png": pickle.dumps(Payload())},
    "pickle as a placeholder": {"models/.gitkeep": pickle.dumps(Payload(), 0)},
    "archive behind a picture": {"docs/picture.png": PNG + PNG_END + archive("model/data.pkl")},
    "compressed text": {"docs/notes.txt": b"\x1f\x8b\x08\0"},
    "weights under another name": {"models/model.pth": b"x"},
    "path file": {"evil.pth": "import os\n"},
    "path file in scripts": {"scripts/evil.pth": "import os\n"},
    "sitecustomize": {"sitecustomize.py": "x = 1\n"},
    "conftest": {"conftest.py": "x = 1\n"},
    "extension module": {"scripts/network.abi3.so": b"x"},
    "extension module of Windows": {"scripts/network.pyd": b"x"},
    "compiled beside": {"scripts/network.pyc": b"x"},
    "YAML": {"configs/evil.yaml": "x: 1\n"},
    "config under another name": {"configs/evil.conf": "x"},
    "byte order mark": {"configs/evil.json": b"\xef\xbb\xbf{}"},
    "wide letters": {"configs/evil.json": "{}".encode("utf-16")},
    "key that stands twice": {"configs/evil.json": '{"a": 1, "a": 2}'},
}

SAMPLES = {
    f"{kind}: {name}": files
    for kind, samples in {"target": TARGETS, "value": VALUES, "Python": DETOURS, "file": FILES}.items()
    for name, files in samples.items()
}


@pytest.fixture
def clean(tmp_path) -> Path:
    for name in ("configs", "scripts", "docs", "models"):
        (tmp_path / "evil" / name).mkdir(parents=True)
    (tmp_path / "evil/scripts/network.py").write_text(NETWORK)
    content = {"imports": ["$import os"], "network_def": {"_target_": "scripts.network.Segmenter"}}
    (tmp_path / "evil/configs/inference.json").write_text(json.dumps(content))
    return tmp_path / "evil"


def refused(folder: Path, files: dict[str, str | bytes]) -> list:
    write_files(folder, files)
    return [finding for finding in scan(folder, ALLOW) if not finding.allowed]


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_detour_is_refused(sample, clean):
    files = SAMPLES[sample]
    found = refused(clean, files)
    assert any(finding.where.split(":")[0].split("!")[0] == next(iter(files)) for finding in found), found


def test_what_looks_like_one_is_none(clean):
    files = {
        "docs/README.md": "cat\ndog\nReduce a < b, `<name>` & more.\n",
        "docs/notes.txt": "cos\nsystem\nis how protocol 0 begins.\n",
        "docs/picture.png": PNG + PNG_END,
        "models/.gitkeep": "",
        "scripts/common/report/template.html": "<!DOCTYPE html><p style='color: red'>$x</p><a href='#a'>a</a>",
        "configs/logging.conf": HANDLER + "[formatter_f]\nformat=%(message)s\ndefaults={'a': 1}\n",
        "scripts/evil.py": "import os, torch\n\nx = torch.load('x', weights_only=True)\ny = hasattr(os, 'stat')\n",
        "scripts/first.py": "from .network import Segmenter as S\n\nx = S().shape\n",
    }
    assert (
        refused(clean, files | scripted("y = torch.conv3d(x)\nz = ops.prim.RaiseException('save')\nself.save = 1\n"))
        == []
    )
