from __future__ import annotations

import json

import pytest

from common.errors import InputError
from tools.scanning.findings import AllowList, Finding, read_allow_list


def test_a_finding_is_allowed_where_nothing_speaks_against_it():
    assert Finding("target", "here", "x").allowed and not Finding("target", "here", "x", "because").allowed


def test_what_was_asked_is_kept():
    allow = AllowList(targets=("UNet",), expressions=("$f('bundles/<bundle>')",))
    assert allow.permits("targets", "UNet") and not allow.permits("targets", "VNet")
    assert allow.permits_expression("$f('bundles/mine')") and not allow.permits_expression("$f('bundles/../x')")
    assert {(kind, name) for kind, name, _ in allow.asked} == {
        *(("targets", "UNet"), ("targets", "VNet")),
        *(("expressions", "$f('bundles/<bundle>')"), ("expressions", "$f('bundles/../x')")),
    }


def test_python_by_name_and_by_file():
    review = {"scripts/a.py": {"sha256": "1", "names": ["sys.modules"]}}
    names = {"torch.nn": ["Linear"], "torch": ["load(weights_only=True)"], "sys": ["excepthook ="]}
    allow = AllowList(python={"names": names, "reviewed": review})
    assert allow.permits_python("names", "torch.nn.Linear", "scripts/b.py", "2")
    assert not allow.permits_python("names", "torch.nn", "scripts/b.py", "2")
    assert allow.permits_python("names", "sys.modules", "scripts/a.py", "1")
    assert not allow.permits_python("names", "sys.modules", "scripts/a.py", "2")
    assert not allow.permits_python("names", "sys.modules", "scripts/b.py", "1")
    assert not allow.permits_python("reviewed", "torch.nn.Linear", "scripts/b.py", "2")
    for name in ("torch", "torch.nn", "torch.load", "sys.excepthook"):
        assert allow.knows(name, "scripts/b.py", "2")
    assert not allow.knows("torch.n", "scripts/b.py", "2") and not allow.knows("sys.modules", "scripts/b.py", "1")
    assert allow.knows("sys.modules", "scripts/a.py", "1")


def test_files_by_pattern():
    allow = AllowList(files=("configs/*.json", "LICENSE"))
    assert allow.permits_file("configs/a.json") and allow.permits_file("LICENSE")
    assert not any(
        allow.permits_file(path) for path in ("a/LICENSE", "LICENSE.py", "configs/a.JSON", "x/configs/a.json")
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"target": []}, "'target'"),
        ({"targets": "UNet"}, "targets"),
        ({"targets": [1]}, "targets"),
        ({"python": []}, "python"),
        ({"python": {"import": []}}, "python.import"),
        ([], "list"),
    ],
)
def test_a_mistyped_list_is_an_error(content, found, tmp_path):
    (tmp_path / "allow.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=found):
        read_allow_list(tmp_path / "allow.json")


def test_a_missing_or_broken_list_is_an_error(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    for name in ("broken.json", "nothing.json"):
        with pytest.raises(InputError, match="wanted an allow-list"):
            read_allow_list(tmp_path / name)


def test_nothing_is_allowed_by_an_empty_list(tmp_path):
    (tmp_path / "allow.json").write_text("{}")
    assert read_allow_list(tmp_path / "allow.json") == AllowList()
