from __future__ import annotations

import hashlib
import json

from tools.scanning.findings import AllowList, as_allow_list
from tools.scanning.used import changes, grouped, needed_list, written

REVIEWED = {"scripts/r.py": {"sha256": "old", "names": ["gone"]}}


def asked(*entries: tuple[str, str, str], **lists) -> AllowList:
    allow = AllowList(**lists)
    allow.asked.update(entries)
    return allow


def test_a_list_holds_what_was_asked_for():
    allow = asked(
        *(("targets", "B", ""), ("targets", "A", ""), ("names", "json.loads", "scripts/a.py")),
        *(("names", "torch.save", "scripts/a.py"), ("names", "torch._C.x", "scripts/a.py")),
        *(("attributes", "run", ""), ("attributes", "shape", "scripts/a.py"), ("reviewed", "tb_frame", "scripts/a.py")),
        *(("names", "sys.modules", "scripts/r.py"), ("names", "math.pi", "scripts/r.py")),
        *(("reviewed", "tb_next", "scripts/r.py"), ("builtins", "open", "scripts/r.py")),
        targets=("A", "unused"),
        pickles=("b", "a"),
        python={"names": {"torch": ["save", "unused"]}, "reviewed": REVIEWED},
    )
    content = needed_list(allow, {"scripts/r.py": b"x", "scripts/a.py": b"y"})
    assert content["targets"] == ["A", "B"] and content["pickles"] == ["b", "a"] and content["attributes"] == ["run"]
    python = content["python"]
    assert python["names"] == {"json": ["loads"], "math": ["pi"], "torch": ["save"]} and python["builtins"] == []
    assert python["attributes"] == ["shape"]
    sha256 = hashlib.sha256(b"x").hexdigest()
    assert python["reviewed"] == {"scripts/r.py": {"sha256": sha256, "names": ["open", "sys.modules", "tb_next"]}}
    after = as_allow_list(content)
    after.asked.update(allow.asked)
    said = list(changes(allow, after))
    assert {"+ targets: B", "- targets: unused", "- reviewed scripts/r.py: old"} <= set(said)
    assert [line.split("  ")[0] for line in said if line[0] == "!"] == ["! names: torch._C.x", "! reviewed: tb_frame"]


def test_names_are_grouped_by_what_stands_before_them():
    names = ["a.b.c", "a.load(x=1.5)", "a.d =", "a.b.d"]
    assert grouped(names) == {"a": ["d =", "load(x=1.5)"], "a.b": ["c", "d"]}


def test_the_list_is_written_for_a_reader():
    words = [f"word number {n}" for n in range(30)]
    text = written({"a": words, "b": {"c": [], "d": ["é"]}, "e": "x"})
    assert json.loads(text) == {"a": words, "b": {"c": [], "d": ["é"]}, "e": "x"}
    assert max(map(len, text.splitlines())) <= 120 and len(text.splitlines()) <= 14
