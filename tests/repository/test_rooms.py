"""Where things stand: who imports whom, how much a folder and a file hold, and what they are called."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.bundle.sources import copy_sources

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.name for path in ROOT.glob("bundles/*/scripts"))
TOPS = [ROOT / "common", ROOT / "tools", ROOT / "tests", *(ROOT / "bundles" / name / "scripts" for name in BUNDLES)]
LONGEST = 350  # lines
FEWEST, MOST = 2, 10  # Python files of a room
SAME_WORD = 3  # so many names that begin alike want a folder


def python_files(top: Path) -> list[Path]:
    """Return a folder's own Python files, its rooms' included; those of the linked `common` are not its own."""
    linked = top / "common"
    return sorted(path for path in top.rglob("*.py") if not (linked.is_symlink() and linked in path.parents))


FILES = [path for top in (*TOPS, ROOT / "benchmarks") for path in python_files(top)]
ROOMS = sorted({path.parent for top in TOPS for path in python_files(top)} - set(TOPS))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names_in(folder: Path) -> list[str]:
    """Return what a folder's Python files are called: without the suffix and a test's `test_`."""
    return sorted(path.stem.removeprefix("test_") for path in folder.glob("*.py") if path.stem != "__init__")


def lint_imports(root: Path, bundle: str | None = None) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml, or those of a bundle, on the sources below `root`."""
    program = Path(sys.executable).with_name("lint-imports")
    rules = root / ("tests/repository/bundle_imports.toml" if bundle else "pyproject.toml")
    environment = {**os.environ, "PYTHONPATH": str(root / "bundles" / bundle) if bundle else ""}
    command = [program, "--no-cache", "--no-logo", rules]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("bundle", [None, *BUNDLES])
def test_nothing_imports_in_a_circle_or_from_a_floor_above(bundle):
    done = lint_imports(ROOT, bundle)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Folder with a copy of what the contracts are about, that a test may change."""
    for folder in ("common", "tools", "benchmarks"):
        copy_sources(ROOT / folder, tmp_path / folder)
    copy_sources(ROOT / "bundles" / BUNDLES[0], tmp_path / "bundles" / BUNDLES[0])
    for rules in ("pyproject.toml", "tests/repository/bundle_imports.toml"):
        (tmp_path / rules).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / rules, tmp_path / rules)
    return tmp_path


@pytest.mark.parametrize(
    ("bundle", "file", "line", "contract"),
    [
        (None, "common/errors.py", "from .report import page", "A room of common imports only from floors below"),
        (None, "common/new_room/__init__.py", "", "The following modules are not listed as layers"),
        (None, "common/sam/weights/known.py", "from .. import build", "A room of common.sam imports only from"),
        (None, "common/cohorts/cohort.py", "from .few_labels import FewLabelCohort", "No circle between rooms"),
        (None, "common/run/machine.py", "import tools.pack", "the other way round"),
        (None, "common/run/machine.py", "import scripts.network", "common and tools import no bundle"),
        (BUNDLES[0], "network.py", "from bundles.another.scripts import network", "A bundle imports no other bundle"),
        (BUNDLES[0], "network.py", "from common.errors import InputError", "A bundle imports no other bundle"),
        (BUNDLES[0], "network.py", "from . import finish", "No circle between rooms or files"),
        (BUNDLES[0], "common/errors.py", "from .. import network", "No circle between rooms or files"),
    ],
)
def test_an_import_against_the_rules_is_found(sources, bundle, file, line, contract):
    path = (sources / "bundles" / bundle / "scripts" if bundle else sources) / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as text:
        text.write(f"\n{line}\n")
    done = lint_imports(sources, bundle)
    assert done.returncode == 1 and contract in done.stdout.split("Broken contracts")[-1], done.stdout + done.stderr


def test_a_room_holds_a_handful_of_files():
    sizes = {name(room): len(names_in(room)) for room in ROOMS}
    # a room of tests may mirror a few files of many
    wrong = {
        room: size for room, size in sizes.items() if size > MOST or (size < FEWEST and not room.startswith("tests/"))
    }
    assert not wrong


def test_no_file_is_too_long_to_read_at_once():
    lengths = {name(path): path.read_text().count("\n") for path in FILES}
    assert not {path: length for path, length in lengths.items() if length > LONGEST}


def test_no_word_at_the_front_of_file_names_does_a_folders_work():
    words = {name(room): Counter(stem.split("_")[0] for stem in names_in(room) if "_" in stem) for room in ROOMS}
    assert not {f"{room}/{word}_*" for room, of in words.items() for word, n in of.items() if n >= SAME_WORD}


def test_names_say_what_a_file_holds():
    assert not [name(path) for path in FILES if path.stem in ("utils", "util", "helpers", "misc")]


def test_every_room_says_what_it_is_for_and_imports_nothing():
    packages = [path for path in FILES if path.stem == "__init__"]
    missing = [
        name(room) for room in ROOMS if ROOT / "tests" not in room.parents and room / "__init__.py" not in packages
    ]
    assert not missing
    for path in packages:
        body = ast.parse(path.read_text()).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr), f"{name(path)}: wanted one docstring and nothing else"
