from __future__ import annotations

import hashlib

import pytest

from tools.scanning.findings import AllowList
from tools.scanning.python.modules import Modules
from tools.scanning.python.targets import judge_definition


def judge(source: str, name: str = "scripts.a.f", allow: AllowList | None = None) -> str:
    return judge_definition(name, Modules({"scripts/a.py": source.encode()}), allow or AllowList())


@pytest.mark.parametrize(
    "source",
    [
        "def f(path):\n    return path\n",
        "class f:\n    def __init__(self):\n        pass\n\n    def keep(self, path):\n        path.write_text('x')\n",
        "import os\n\n\ndef f():\n    return os.environ.get('A'), os.path.exists('x')\n",
        "@property\ndef f(open):\n    return open()\n",
    ],
)
def test_a_class_or_function_that_only_builds(source):
    assert judge(source) == ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "defines no such"),
        ("f = 1\n", "defines no such"),
        ("from os import system as f\n", "defines no such"),
        ("async def f():\n    pass\n", "defines no such"),
        ("import contextlib\n\n\n@contextlib.contextmanager\ndef f():\n    yield\n", "a context manager"),
        ("class f:\n    def __exit__(self, *error):\n        pass\n", "a context manager"),
        ("def f(x):\n    open(x, 'w')\n", "by itself: open"),
        ("import os\n\n\ndef f(x):\n    [os.unlink(y) for y in x]\n", "by itself: os.unlink"),
        ("from subprocess import run\n\n\ndef f(x):\n    run(x)\n", "by itself: subprocess.run"),
        ("from pathlib import Path\n\n\nclass f:\n    x = Path('a').write_text('b')\n", "by itself: .write_text"),
        ("class f:\n    def __init__(self, p):\n        p.unlink()\n", "by itself: .unlink"),
    ],
)
def test_what_a_config_may_not_call(source, reason):
    assert reason in judge(source)


def test_in_a_reviewed_file_it_is_listed_with_the_file():
    source = "def f():\n    pass\n"
    for names, reason in (([], "may do more"), (["scripts.a.f"], "")):
        review = {"scripts/a.py": {"sha256": hashlib.sha256(source.encode()).hexdigest(), "names": names}}
        assert reason in judge(source, allow=AllowList(python={"reviewed": review}))
        assert judge(source, allow=AllowList(python={"reviewed": review})) == reason or reason
