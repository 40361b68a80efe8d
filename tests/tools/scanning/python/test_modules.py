from __future__ import annotations

from tools.scanning.python.modules import Modules, absolute

MODULES = Modules(
    {
        "scripts/a.py": b"import os\nfrom torch import nn\nfrom .b import C as D\n"
        b"if os:\n    X = 1\ndef f():\n    Y = 1\n",
        "scripts/b.py": b"class C:\n    size: int = 1\n\n    def g(self):\n        self.own = self.os = 1\n",
        "scripts/round.py": b"from .round import x\n",
        "scripts/broken.py": b"def",
        "scripts/folder/c.py": b"x = 1\n",
    }
)


def origin(name: str) -> tuple[str, str, tuple[str, ...]]:
    found = MODULES.resolve(name)
    return found.kind, found.name, found.rest


def test_where_a_name_comes_from():
    assert origin("scripts.a.os.system") == ("outside", "os.system", ())
    assert origin("scripts.a.nn.Module") == ("outside", "torch.nn.Module", ())
    assert origin("scripts.a.D.size") == ("defined", "scripts.b.C", ("size",))
    assert origin("scripts.a.X") == ("defined", "scripts.a.X", ())
    assert origin("scripts.a") == ("module", "scripts.a", ())
    assert origin("scripts.folder.c.x") == ("defined", "scripts.folder.c.x", ())
    for name in ("scripts.a.Y", "scripts.a.nothing", "scripts.none.x", "scripts.round.x", "scripts.broken.x"):
        assert origin(name)[0] == "", name


def test_own_attributes_leave_out_what_runs_or_writes():
    assert MODULES.own_attributes == {"C", "f", "g", "own", "size"}


def test_relative_imports():
    assert absolute("scripts/common/a.py", 1, "b") == "scripts.common.b"
    assert absolute("scripts/common/a.py", 2, None) == "scripts"
    assert absolute("scripts/common/a.py", 3, "b") == "" and absolute("x.py", 1, "b") == ""
