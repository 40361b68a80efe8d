from __future__ import annotations

import importlib

import pytest

from tools.scanning.findings import read_allow_list
from tools.scanning.forbidden import HARMLESS, forbidden, hidden_danger, leads_elsewhere


@pytest.mark.parametrize(
    "name",
    [
        *(
            "eval",
            "__import__",
            "os.system",
            "os",
            "os.environ.system",
            "subprocess.run",
            "builtins.exec",
            "sys.modules",
        ),
        *("torch.load", "torch.hub.load", "torch._utils.x", "torch.nn.modules.module.sys.exit", "monai.bundle.run"),
        *(
            "monai.transforms.__builtins__",
            "numpy.load",
            "random._os.popen",
            "monai.utils.run_cmd",
            "os.path.os.system",
        ),
    ],
)
def test_never_allowed(name):
    assert forbidden(name)


@pytest.mark.parametrize(
    "name", ["UNet", "len", "torch.device", "os.environ.get", "os.path.join", "monai.transforms.Compose"]
)
def test_an_allow_list_may_decide(name):
    assert forbidden(name) == ""


def test_harmless_names_exist():
    for name in HARMLESS:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_our_list_permits_nothing_that_is_never_allowed():
    allow = read_allow_list()
    assert [name for name in allow.targets if forbidden(name)] == []


def test_danger_inside_of_packages():
    assert (
        hidden_danger("json.codecs.sys") and hidden_danger("logging.config.fileConfig") and hidden_danger("torch._C.x")
    )
    assert not hidden_danger("scipy.signal.convolve") and not hidden_danger("torch.loading")


def test_paths():
    assert all(leads_elsewhere(path) for path in ("/a", "~", "..", "a/..", "C:/x", "file:///x", "..\\x"))
    assert not any(leads_elsewhere(path) for path in ("a", "./a", "a/b", "a..b", "...", "1: 2"))
