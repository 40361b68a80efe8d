"""What is written down twice is the same in both places: versions, pages, papers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_pre_commit_takes_the_versions_of_the_requirements():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    taken = dict(line.split("==") for hook in repository["hooks"] for line in hook["additional_dependencies"])
    shared = taken.keys() & pinned.keys()
    assert {"ruff", "codespell"} <= shared
    assert {name: taken[name] for name in shared} == {name: pinned[name] for name in shared}


def test_the_index_of_the_documents_names_every_page_and_no_other():
    text = (ROOT / "docs" / "README.md").read_text()
    linked = set(re.findall(r"\]\(([^)]+)\)", text))
    pages = {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"}
    assert {page for page in linked if "/" not in page} == pages
    assert all((ROOT / "docs" / page).is_file() for page in linked)


def test_the_papers_to_cite_are_those_of_the_bundles():
    cited: dict[str, list[dict]] = {}
    for entry in yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]:
        cited.setdefault(entry["notes"], []).append(entry)
    bundles = {f"bundles/{path.parents[1].name}": path for path in ROOT.glob("bundles/*/configs/metadata.json")}
    assert cited.keys() == bundles.keys()
    for name, path in bundles.items():
        for entry, reference in zip(cited[name], json.loads(path.read_text())["references"], strict=True):
            assert reference.endswith(entry["url"])
            assert entry["title"].split(":")[0] in reference
            assert entry.get("doi", "") in reference
            assert all(author.get("family-names", "") in reference for author in entry["authors"])
