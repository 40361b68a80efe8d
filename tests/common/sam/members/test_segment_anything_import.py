"""`segment_anything` beside a missing, an unfit and a sound torchvision; each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

UNFIT = {
    "__init__.py": "from torchvision import extension\nfrom torchvision import registrations\n",
    "extension.py": "",
    "registrations.py": "raise RuntimeError('operator torchvision::nms does not exist')\n",
}
SOUND = {
    "__init__.py": "",
    "ops/__init__.py": "",
    "ops/boxes.py": "batched_nms = box_area = None\n",
    "transforms/__init__.py": "",
    "transforms/functional.py": "resize = to_pil_image = None\n",
}
ABSENT = {"__init__.py": "raise ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')\n"}


def run(tmp_path: Path, torchvision: dict[str, str], code: str) -> str:
    for name, text in torchvision.items():
        path = tmp_path / "torchvision" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    start = "import sys\nfrom common.sam.members.segment_anything_import import load_segment_anything\n"
    command = [sys.executable, "-c", start + code]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("torchvision", [UNFIT, ABSENT], ids=["unfit", "absent"])
def test_works_without_a_sound_torchvision(tmp_path, torchvision) -> None:
    code = """
modeling = load_segment_anything()
assert not [name for name in sys.modules if name.startswith("torchvision")]
import segment_anything
from segment_anything import build_sam, sam_model_registry
assert load_segment_anything() is modeling is segment_anything.modeling
assert callable(build_sam) and sam_model_registry["vit_b"] is segment_anything.build_sam_vit_b
from segment_anything.modeling.image_encoder import ImageEncoderViT
assert ImageEncoderViT is modeling.ImageEncoderViT
assert not hasattr(segment_anything, "nonsense")
try:
    from segment_anything import SamPredictor
except ImportError as error:
    print(error)
"""
    said = run(tmp_path, torchvision, code)
    assert "SamPredictor needs a torchvision that fits torch" in said


def test_untouched_beside_a_sound_torchvision(tmp_path) -> None:
    code = """
import segment_anything
before = segment_anything, dict(vars(segment_anything)), segment_anything.modeling
modeling = load_segment_anything()
assert sys.modules["segment_anything"] is before[0] and vars(segment_anything) == before[1]
assert modeling is before[2]
"""
    run(tmp_path, SOUND, code)
    code = """
load_segment_anything()
import segment_anything, torchvision
assert "__getattr__" not in vars(segment_anything)
assert segment_anything.SamPredictor.__module__ == "segment_anything.predictor"
"""
    run(tmp_path, SOUND, code)


def test_a_failed_import_before_ours_does_not_matter(tmp_path) -> None:
    code = """
try:
    import segment_anything
except RuntimeError as error:
    print(error)
modeling = load_segment_anything()
import segment_anything
assert segment_anything.modeling is modeling
"""
    assert "torchvision::nms" in run(tmp_path, UNFIT, code)


def test_another_fault_of_the_package_is_not_hidden(tmp_path) -> None:
    package = tmp_path / "segment_anything"
    package.mkdir()
    (package / "__init__.py").write_text("raise ValueError('of its own')\n")
    code = """
try:
    load_segment_anything()
except ValueError as error:
    print(error)
"""
    assert "of its own" in run(tmp_path, UNFIT, code)
