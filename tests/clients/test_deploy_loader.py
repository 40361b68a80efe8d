"""MONAI Deploy's loader opens each bundle: as a folder with model.ts, as one with model.pt alone, and as model.ts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from support.bundle.packed import GRID, TINY

pytestmark = pytest.mark.slow

# run by the client's Python, one process for all bundles: their `scripts` are unloaded in between
LOAD = """
import json, shutil, sys
from pathlib import Path

import torch
from monai.deploy.core import AppContext, Application, Image, IOType
from monai.deploy.operators import monai_bundle_inference_operator as deploy

torch.set_num_threads(1)
path, names = list(sys.path), deploy.BundleConfigNames()
application = type("Empty", (Application,), {"compose": lambda self: None})()

def operator(bundle):
    ends = {"input_mapping": [deploy.IOMapping("image", Image, IOType.IN_MEMORY)]}
    ends["output_mapping"] = [deploy.IOMapping("pred", Image, IOType.IN_MEMORY)]
    context = AppContext({"model": "nothing"})
    return deploy.MonaiBundleInferenceOperator(application, app_context=context, bundle_path=bundle, **ends)

for folder in map(Path, sys.argv[1:]):
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *path]
    without = Path(folder.name)
    shutil.copytree(folder, without)
    (without / "models" / "model.ts").unlink()
    config = deploy.get_bundle_config(str(folder), names.config_names)
    device = torch.device("cpu")
    networks = [deploy._load_model_from_directory_bundle(place, device, config) for place in (folder, without)]
    archive = operator(folder / "models" / "model.ts")  # the operator's own start, which wants a file
    grid = config.get_parsed_content("grid")
    image = torch.rand(1, 1, *grid.spatial_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scripted, eager = (network(image) for network in networks)
        pred = archive._inferer(image, networks[0])
    print(json.dumps({
        "grids": [grid.as_dict(), archive.parser.get_parsed_content("grid").as_dict()],
        "kinds": [isinstance(network, torch.jit.ScriptModule) for network in networks],
        "started": archive._init_completed,
        "shape": list(pred.shape),
        "range": float(eager.max() - eager.min()),
        "difference": float((scripted - eager).abs().max()),
        "version": archive.parser["_meta_"]["version"],
        "preprocessing": [type(item).__name__ for item in archive._preproc.transforms],
        "postprocessing": [type(item).__name__ for item in archive._postproc.transforms],
    }))
"""


@pytest.fixture(scope="module")
def loaded(deploy_python, client_environment, packed_bundle, tmp_path_factory) -> dict[str, dict]:
    """What the client's process says of each bundle."""
    folder = tmp_path_factory.mktemp("deploy")
    command = [deploy_python, "-c", LOAD, *map(packed_bundle, TINY)]
    done = subprocess.run(command, cwd=folder, env=client_environment(deploy_python), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip(TINY, lines, strict=True))


@pytest.mark.parametrize("name", TINY)
def test_loader_opens_the_bundle_with_its_own_grid(name, loaded):
    found = loaded[name]
    assert found["started"]
    # from another working folder; for model.ts too, once the bundle's folder is on the path
    assert found["grids"] == [GRID, GRID]
    assert found["kinds"] == [True, False]
    assert found["shape"] == [1, len(GRID["label_values"]), *GRID["spatial_size"]]
    assert found["range"] > 0.01 and found["difference"] < 1e-4
    metadata = Path(__file__).resolve().parents[2] / "bundles" / name / "configs" / "metadata.json"
    assert found["version"] == json.loads(metadata.read_text(encoding="utf-8"))["version"]


@pytest.mark.parametrize("name", TINY)
def test_what_reads_and_writes_files_is_left_out_and_the_rest_does_without(name, loaded):
    before, after = loaded[name]["preprocessing"], loaded[name]["postprocessing"]
    assert not [step for step in before + after if "LoadImage" in step or "SaveImage" in step]
    assert before[:2] == ["EnsureChannelFirstd", "EnsureTyped"]  # the SDK hands over integers without a channel
    assert "ToNativeGridd" in after
