from __future__ import annotations

import pytest

from tools.scanning.findings import AllowList
from tools.scanning.logging_conf import scan_logging

ALLOW = AllowList(logging=("StreamHandler",))


def scan(text: str):
    return list(scan_logging("configs/logging.conf", text, ALLOW))


def refused(text: str) -> list[str]:
    return [finding.what for finding in scan(text) if not finding.allowed]


def test_classes_and_arguments_are_listed():
    found = scan(
        "[handler_a]\nclass=StreamHandler\nargs=(sys.stdout,)\nlevel=INFO\n[formatter_b]\nformat=%(message)s\n"
    )
    assert [(f.where.rpartition("::")[2], f.what, f.allowed) for f in found] == [
        *(("class", "StreamHandler", True), ("args", "(sys.stdout,)", True))
    ]


@pytest.mark.parametrize(
    "value", ["FileHandler", "eval", "handlers.SMTPHandler", "StreamHandler if 1 else x", "%(x)s", ""]
)
def test_other_classes_are_refused_in_every_section(value):
    assert refused(f"[handler_a]\nclass={value}\n") == [value]
    assert refused(f"[formatter_a]\nclass={value}\n") == [value]
    assert refused(f"[handler_a]\nCLASS = {value}\n") == [value]  # options have no case


@pytest.mark.parametrize("value", ["()", "(sys.stderr,)", "('a', 1, [2], {'b': None})"])
def test_literals_are_allowed(value):
    assert refused(f"[handler_a]\nargs={value}\n") == []


@pytest.mark.parametrize("value", ["(sys.path,)", "(sys,)", "(f(),)", "('%(x)s',)", "(1 + 1,)", "(a for a in b)", "("])
def test_everything_else_is_refused(value):
    assert refused(f"[handler_a]\nargs={value}\n") == [value]
    assert refused(f"[handler_a]\nkwargs={value}\n") == [value]


def test_formatters_evaluate_their_defaults_and_unknown_options_are_refused():
    assert refused("[formatter_a]\ndefaults={'a': 1}\nformat=%(message)s\nstyle=%\n") == []
    assert refused("[formatter_a]\nDefaults={'a': f()}\n") == ["{'a': f()}"]
    assert refused("[handler_a]\ntarget=b\n") == ["target=b"]


def test_defaults_and_broken_files_are_refused():
    assert refused("[DEFAULT]\nx=1\n") == ["1"]
    assert refused("[DEFAULT]\nclass=eval\n[handler_a]\n") == ["eval", "eval"]
    assert refused("class=eval\n") == ["MissingSectionHeaderError"]
    assert refused("[handler_a]\nclass=StreamHandler\nclass=eval\n") == ["DuplicateOptionError"]
