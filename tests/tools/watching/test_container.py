"""What can be known of the container's file without building it; docs/watch.md says how it was built and run."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "tools" / "container" / "Dockerfile").read_text()


def entries(word: str) -> list[str]:
    return re.findall(rf"^{word} (.*)$", TEXT, re.MULTILINE)


def test_it_runs_as_somebody_without_rights():
    assert entries("USER") == ["10001:10001"] and TEXT.index("USER") < TEXT.index("ENTRYPOINT")


def test_it_takes_what_the_wheelhouse_writes_and_nothing_else():
    assert "RUN python3 /stick/install.py /opt/watch" in TEXT
    copied = [entry.split() for entry in entries("COPY")]
    assert copied[0] == [".", "/stick"] and all(entry[0] == "--from=made" for entry in copied[1:])
    inside = {entry[1] for entry in copied[1:]}
    assert inside == {"/opt/watch/venv", "/opt/watch/bundles", "/stick/common", "/stick/tools"}
    assert not re.search(r"pip install|apt-get|curl|ADD ", TEXT)


def test_it_begins_the_command_with_folders_that_are_there():
    [entry], [command] = map(json.loads, entries("ENTRYPOINT")), map(json.loads, entries("CMD"))
    assert entry[1:4] == ["-m", "tools.watch", "--bundle"] and "mkdir /in /out" in TEXT
    assert command == ["/in", "--output_dir", "/out"]
