"""MONAI Label and MONAI's federated client run a bundle without Python, whose code their environment has as a wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from support.bundle.packable import NAME, make_bundle
from tools.pack import pack
from tools.unpack import unpack

pytestmark = pytest.mark.slow

LABEL = """
import json, logging, sys
logging.disable(logging.CRITICAL)
from monailabel.tasks.infer.bundle import BundleInferTask
task = BundleInferTask(sys.argv[1], {"use_cache": "False"})
result, answer = task({"image": sys.argv[2], "device": "cpu", "result_extension": ".nii.gz"})
found = {"result": result, "labels": task.labels, "rows": len(answer["review"])}
print(json.dumps({**found, "scripts": "scripts" in sys.modules}))
"""
FEDERATED = """
import json, sys
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
algo = MonaiAlgo(bundle_root=sys.argv[1], config_evaluate_filename=None, train_kwargs={"dataset_dir": sys.argv[2]})
algo.initialize(extra={ExtraItems.CLIENT_NAME: "site", ExtraItems.APP_ROOT: "/"})
network = algo.trainer.network
print(json.dumps({"module": type(network).__module__, "scripts": "scripts" in sys.modules}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the bundle, and one that has its code on the path, as an installed wheel."""
    folder = tmp_path_factory.mktemp("site")
    bundle = make_bundle(folder / "repository")
    path, _ = pack(bundle, folder / "dist", bundle / "models" / "model.pt", pure=True)
    [wheel] = path.parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "library")
    return unpack(path, folder / "unpacked")[0], folder / "library"


def run(python, environment, code, *words):
    done = subprocess.run([python, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])


def test_monai_label_segments_with_it(site, monailabel_python, client_environment, tmp_path):
    bundle, library = site
    scan = tmp_path / "scan.nii.gz"
    voxels = np.random.default_rng(0).normal(100, 20, (40, 36, 30)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) * 4), scan)
    environment = client_environment(monailabel_python, PYTHONPATH=str(library))
    found = run(monailabel_python, environment, LABEL, str(bundle), str(scan))
    assert not found["scripts"] and found["rows"] == len(found["labels"]) > 1
    assert nibabel.load(found["result"]).shape == voxels.shape


def test_a_federated_client_begins_with_it(site, client_environment, tiny_cohort):
    bundle, library = site
    environment = client_environment(Path(sys.executable), PYTHONPATH=str(library))
    found = run(sys.executable, environment, FEDERATED, str(bundle), str(tiny_cohort))
    assert found["module"].startswith(f"{NAME}_scripts.") and not found["scripts"]
