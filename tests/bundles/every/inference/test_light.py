"""Who only predicts needs no package that only training does: MONAI Deploy's environment has none of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from support.bundle.path import BUNDLES

NAMES = sorted(path.name for path in BUNDLES.iterdir() if (path / "configs" / "inference.json").is_file())
TRAINING_ALONE = ("rich", "tensorboard", "segment_anything", "matplotlib", "sklearn", "skimage", "pandas")
PROGRAM = """
import importlib, json, sys
for name in json.loads(sys.argv[2]):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
for target in json.loads(sys.argv[3]):
    importlib.import_module(target.rpartition(".")[0])
"""


def targets(content) -> set[str]:
    """Every `_target_` of the bundle's own code in a config."""
    if isinstance(content, list):
        return set().union(*map(targets, content))
    if not isinstance(content, dict):
        return set()
    own = {content["_target_"]} if str(content.get("_target_", "")).startswith("scripts.") else set()
    return own.union(*map(targets, content.values()))


@pytest.mark.parametrize("bundle", NAMES)
def test_what_inference_is_made_of_can_be_imported(bundle):
    config = json.loads((BUNDLES / bundle / "configs" / "inference.json").read_text(encoding="utf-8"))
    named = sorted(targets(config))
    assert len(named) > 5
    given = [str(BUNDLES / bundle), json.dumps(TRAINING_ALONE), json.dumps(named)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *given], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
