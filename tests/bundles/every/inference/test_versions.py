"""Bundles of different versions, each with a `common` of its own, in one process that loads them as MONAI Label does.

tests/clients asks its real server; this is the part of it that needs no client.
"""

from __future__ import annotations

import ast
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, SaveImaged

from support.bundle.path import BUNDLES
from support.bundle.run import RRL, SEMISAM
from support.data.ellipsoid import GEOMETRIES, scan

GRID = {"spatial_size": [16, 16, 16], "pixdim": [6.0, 6.0, 6.0], "label_values": [0, 1, 2, 5]}
MARK = 7
# what another version does otherwise: every voxel of a label map has one value
MARKED = """

from ..launch.words import other_version

_written = ToNativeGridd.__call__


def _marked(self, data):
    result = _written(self, data)
    result["pred"][...] = other_version
    return result


ToNativeGridd.__call__ = _marked
"""


def loaded_scripts() -> dict[str, object]:
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "scripts"}


class Served:
    """A bundle in a server: its `scripts` are importable while a part of it is built, and no longer."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder, self.parser = folder, ConfigParser()
        self.parser.read_config(str(folder / "configs" / "inference.json"))
        own = {"bundle_root": str(folder), "ckpt_path": "no such file", "device": "cpu", "grid::default": GRID}
        self.parser.update({**own, **settings})
        self.version = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
        torch.manual_seed(0)
        self.network = self.build("network_def").eval()

    @contextlib.contextmanager
    def importable(self) -> Iterator[None]:
        sys.path.insert(0, str(self.folder))
        for name in loaded_scripts():
            del sys.modules[name]
        yield
        sys.path.remove(str(self.folder))

    def build(self, name: str):
        with self.importable():
            return self.parser.get_parsed_content(name, instantiate=True)

    def parts(self) -> tuple:
        after = [part for part in self.build("postprocessing").transforms if not isinstance(part, SaveImaged)]
        return self.build("preprocessing"), self.build("inferer"), Compose(after)

    def segment(self, image: Path, parts: tuple | None = None) -> np.ndarray:
        before, inferer, after = parts or self.parts()
        item = before({"image": str(image)})
        with torch.no_grad():
            item["pred"] = inferer(item["image"][None], self.network)[0]
        return np.asarray(after(item)["pred"])[0]


@pytest.fixture
def bundles(tmp_path, monkeypatch) -> Iterator[dict[str, Served]]:
    """SemiSAM+, SemiSAM+ of another version, and RRL-MedSAM, each packed with its `common`."""
    before = loaded_scripts()
    elsewhere = [entry for entry in sys.path if BUNDLES not in (Path(entry), *Path(entry).parents)]
    monkeypatch.setattr(sys, "path", elsewhere)
    monkeypatch.chdir(tmp_path)
    first, other, third = SEMISAM.copy(tmp_path / "a"), SEMISAM.copy(tmp_path / "b"), RRL.copy(tmp_path / "c")
    metadata = other / "configs" / "metadata.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text(encoding="utf-8")) | {"version": "9.9.9"}))
    for name, more in (("grid/native.py", MARKED), ("launch/words.py", f"\nother_version = {MARK}\n")):
        with (other / "scripts" / "common" / name).open("a", encoding="utf-8") as code:
            code.write(more)
    small = {"channels": [4, 8], "strides": [2]}
    yield {
        "first": Served(first, **small),
        "other": Served(other, **small),
        "third": Served(third, channels=[4, 4, 8, 8]),
    }
    for name in loaded_scripts():
        del sys.modules[name]
    sys.modules.update(before)


def test_each_answers_by_its_own_code_whichever_was_asked_before(bundles, tmp_path):
    image = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(*scan(*GEOMETRIES["PSR"])), image)
    answers = {name: bundle.segment(image) for name, bundle in bundles.items()}
    assert bundles["other"].version == "9.9.9" != bundles["first"].version
    assert (answers["other"] == MARK).all() and len(np.unique(answers["first"])) > 1
    assert MARK not in answers["first"] and MARK not in answers["third"]
    for name in ("first", "third", "other", "first", "other"):
        assert np.array_equal(bundles[name].segment(image), answers[name]), name
    ready = {name: bundles[name].parts() for name in ("other", "first")}  # the second unloads the first one's code
    for name, parts in ready.items():
        assert np.array_equal(bundles[name].segment(image, parts), answers[name]), name


def own_imports(body: list[ast.stmt]) -> list[ast.ImportFrom]:
    return [node for part in body for node in ast.walk(part) if isinstance(node, ast.ImportFrom) and node.level]


def test_no_function_imports_what_is_our_own():
    """When it runs, a server has another version's modules under that name, or none."""
    folders = (BUNDLES.parent / "common", *(path for path in BUNDLES.glob("*/scripts")))
    files = [file for folder in folders for file in folder.rglob("*.py")]
    functions = {
        f"{file}:{node.lineno}": own_imports(node.body)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(functions) > 500 and [place for place, found in functions.items() if found] == []
