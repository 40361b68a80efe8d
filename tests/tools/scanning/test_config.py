from __future__ import annotations

import json

import pytest

from tools.scanning.config import ConfigScanner
from tools.scanning.findings import AllowList

ALLOW = AllowList(
    targets=("Compose", "torch.optim.SGD", "scripts.network.Network", "scripts.network.Gone"),
    imports=("os",),
    readers=("scripts.own.Writer",),
)


def scan(content, path: str = "configs/train.json") -> list[tuple[str, str]]:
    """(kind, what) of what is refused."""
    text = content if isinstance(content, str) else json.dumps(content)
    return [(f.kind, f.what) for f in find(text, path) if not f.allowed]


def find(text: str, path: str = "configs/train.json"):
    return list(ConfigScanner(ALLOW, lambda name: "" if "Gone" not in name else "gone").scan(path, text))


def test_everything_is_listed_with_its_place():
    content = {"imports": ["$import os"], "a": [{"_target_": "Compose", "x": "$len(@b)"}], "b": "text, 5 %"}
    found = {(f.kind, f.where, f.what) for f in find(json.dumps(content))}
    assert found == {
        ("import", "configs/train.json::imports::0", "$import os"),
        ("target", "configs/train.json::a::0::_target_", "Compose"),
        ("expression", "configs/train.json::a::0::x", "$len(@b)"),
    }
    assert scan(content) == []


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        *(("torch.optim.SGD", True), ("torch.optim.Adam", False), ("torch.optim.sgd.SGD", False)),
        *(
            ("scripts.network.Network", True),
            ("scripts.network.other", False),
            ("scripts.network.Gone", False),
            ("Compose.flatten", False),
        ),
        *((None, False), (["Compose"], False), ("Compose ", False), ("", False), ("@x", False), ("%x", False)),
    ],
)
def test_targets(target, allowed):
    assert (scan({"_target_": target}) == []) is allowed


def test_targets_hide_in_keys_of_overrides():
    for key in ("a::_target_", "a#_target_", "+_target_", "+a::_target_"):
        assert scan({key: "os.system"}) == [("target", "os.system")]


def test_modes_and_reserved_names():
    assert (
        scan({"_target_": "Compose", "_mode_": "default", "_disabled_": True, "_desc_": "/x", "_requires_": "@a"}) == []
    )
    assert scan({"_mode_": "partial"}) == [("config", "_mode_: partial")]
    assert scan({"_mode_": ["default"]}) != []
    assert scan({"_other_": 1}) == [("config", "_other_")]


def test_readers_and_writers_are_strings_that_become_classes():
    assert scan({"writer": "scripts.own.Writer", "a": {"writer": "@writer"}, "reader": None}) == []
    assert scan({"reader": "eval"}) == [("reader", "eval")]
    assert scan({"reader": ["scripts.own.Writer", "eval"]}) == [("reader", "eval")]
    assert scan({"other": "scripts.own.Writer", "reader": "@other"}) == [("reader", "@other")]
    assert ("name", "posix.system") in scan({"other": "posix.system"})
    assert scan({"datalist": "dataset.json", "name": "model.pt"}) == []


def test_sizes():
    assert scan({"spatial_shape": [32, "16*n", "2 * p", "*"]}) != []
    assert scan({"spatial_shape": [32, "16*n", "2 * p", "n+1"]}) == []
    assert scan({"spatial_shape": ["9**9**9"]}) == [("expression", "9**9**9")]


def test_macros_references_and_paths():
    assert scan({"a": "%b::c"}) == [("macro", "%b::c")]
    assert scan({"a": "%b"}, "docs/x.json") == [] and scan({"a": "%/x.json::b"}, "docs/x.json") != []
    assert scan({"a": "@::b"}) != [] and scan({"a": "@b::__class__"}) != [] and scan({"a": "@b::c"}) == []
    for path in ("/etc", "~/x", "../x", "a/../b", "C:\\x", "\\\\host\\x", "https://x.org"):
        assert scan({"a": path}) == [("path", path)], path
    assert scan({"a": "x.", "b": "a..b", "c": "a/b"}) == []


@pytest.mark.parametrize("text", ["", ".", "./x", "x/.", "x/", "x//y", "x\\.\\y"])
def test_texts_that_lead_elsewhere_with_another_one(text):
    assert scan({"a": text}) == [("path", text)] and scan({"a": [[text]]}) == [("path", text)]
    assert scan({"_desc_": text}) == [] and scan({"a": text}, "docs/x.json") == []


def test_keys():
    for key in ("a'b", "a(b)", "@a", "$a", "a\nb", "а"):
        assert ("config", key) in scan({key: 1}), key
        assert scan({key: 1}, "provenance.json") == []  # data
    assert scan({"+a::b#c": 1, "0.1.0": 2, "two words": 3}) == []
    assert scan('{"a": "$os", "a": 1}') == [("expression", "$os"), ("config", "a")]


def test_an_import_stands_in_imports():
    assert scan({"x": "$import os"}) == [("import", "$import os")]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\ufeff{}", '{"a": 1} {}'])
def test_what_can_not_be_read_is_refused(text):
    assert [kind for kind, _ in scan(text)] == ["config"]


def test_nesting_that_json_reads_but_nobody_walks_is_refused():
    text = "[" * 900 + "]" * 900
    assert scan(text) in ([], [("config", "nesting")])


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("a: {_target_: Compose, x: $len(@b)}\nb: [1, 2]\n", []),
        ("a: [$__import__('x')]\n", [("expression", "$__import__('x')")]),
        ("a: !!python/name:os.system\n", [("config", "tag:yaml.org,2002:python/name:os.system"), ("path", "")]),
        ("a: !own x\n", [("config", "!own")]),
        ("a: &x os.system\n_target_: *x\n", [("name", "os.system"), ("target", "os.system")]),
        (
            "a: &x {_target_: os.system}\nb:\n  <<: *x\n",
            [("config", "alias"), ("target", "os.system"), ("config", "<<")],
        ),
        ("_target_: os.system\n_target_: Compose\n", [("target", "os.system"), ("config", "_target_")]),
        ("? [a, b]\n: 1\n", [("config", "['a', 'b']")]),
        ("a: 1\n---\nb: 2\n", [("config", "ValueError")]),
        ("a: [\n", [("config", "ValueError")]),
        ("", []),
    ],
)
def test_yaml(text, refused):
    pytest.importorskip("yaml")  # MONAI reads no YAML without it either
    assert scan(text, "configs/train.yaml") == refused


def test_yaml_that_grows_takes_no_time():
    pytest.importorskip("yaml")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)
    ]
    assert {what for _, what in scan("\n".join(lines), "x.yml")} == {"alias"}
