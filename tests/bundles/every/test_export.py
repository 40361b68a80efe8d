"""Each network as inference.json builds it, as TorchScript and as ONNX, gives what it gives in Python.

TorchScript also takes the networks of SemiSAM+'s published.json (a VNet) and of WeakMedSAM's paper.json (a 2D U-Net
through the slices), ONNX the VNet alone. ADA-SAM itself (sam_inference.json) goes through neither: what its decoder is
asked next hangs on what it said before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export
from torch import Tensor, nn

from support.bundle.path import BUNDLES, import_bundle

SIZE = (32, 32, 16)
GRID = {"spatial_size": list(SIZE), "pixdim": [3.0, 3.0, 3.0], "label_values": [0, 1, 2]}
SMALL = {"channels": [4, 8], "strides": [2]}
DEPLOYED = {
    "rrl_medsam": ("rrl_medsam", {"channels": [4, 4, 8, 8]}),
    "semisam_plus": ("semisam_plus", SMALL),
    "weakmedsam": ("weakmedsam", SMALL),
    "ada_sam": ("ada_sam", SMALL),
    "sam_adapters": ("sam_adapters", SMALL),
    "semisam_plus published": ("semisam_plus", {}, "published_inference.json"),
}
SCRIPTED = DEPLOYED | {
    "weakmedsam paper": (
        "weakmedsam",
        {"coarse#body#network#features": [4, 4, 8, 8, 8, 4]},
        "paper_inference.json",
    )
}


@dataclass(frozen=True)
class Export:
    """A network with random weights, a file of them, and the arguments that both of MONAI's exports share."""

    network: nn.Module
    arguments: dict[str, Any]
    folder: Path

    def answer(self, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.network(image)


def prepare(folder: Path, bundle: str, small: dict[str, Any], *more: str) -> Export:
    import_bundle(bundle)
    files = [str(BUNDLES / bundle / "configs" / name) for name in ("inference.json", *more)]
    overrides = {
        "bundle_root": str(BUNDLES / bundle),
        "ckpt_path": str(folder / "missing.pt"),
        "grid::default": GRID,
        **small,
    }
    parser = ConfigParser()
    parser.read_config(files)
    parser.update(overrides)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        for module in network.modules():  # a running mean of 0 and variance of 1 would hide that they got lost
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 2.0)
    torch.save(network.state_dict(), folder / "model.pt")
    arguments = {"net_id": "network_def", "ckpt_file": str(folder / "model.pt"), "config_file": files}
    arguments |= {"meta_file": str(BUNDLES / bundle / "configs" / "metadata.json"), **overrides}
    return Export(network, arguments, folder)


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 1, *SIZE, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("name", SCRIPTED)
def test_torchscript_gives_the_same(name, tmp_path):
    export = prepare(tmp_path, *SCRIPTED[name])
    ckpt_export(filepath=str(tmp_path / "model.ts"), **export.arguments)
    loaded = torch.jit.load(tmp_path / "model.ts").eval()
    for image in images():
        with torch.inference_mode():
            got = loaded(image)
        assert torch.allclose(got, export.answer(image), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", DEPLOYED)
def test_onnx_gives_the_same(name, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export = prepare(tmp_path, *DEPLOYED[name])
    path = tmp_path / "model.onnx"
    onnx_export(filepath=str(path), input_shape=[1, 1, *SIZE], **export.arguments)
    onnx.checker.check_model(str(path), full_check=True)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [tuple(i.shape) for i in session.get_inputs()] == [(1, 1, *SIZE)]
    for image in images():
        (got,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        assert torch.allclose(torch.from_numpy(got), export.answer(image), atol=1e-4, rtol=0)
