from __future__ import annotations

import io
import zipfile

import pytest
import torch

from tools.scanning.models.torchscript import harmful_operators


@pytest.mark.parametrize(
    "code",
    [
        "y = torch.conv3d(x)\nz = ops.prim.RaiseException('torch.save')\nself.save_it = 1\n",
        "def forward(self: __torch__.torch.nn.modules.conv.Conv3d,\n    x: Tensor) -> Tensor:\n  return x\n",
        "a = __torch__.torch.save.x  # a class of that name\n",
        "y = annotate(List[int], [])\n",
    ],
)
def test_ordinary_code(code):
    assert harmful_operators(code.encode()) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("torch.save(x)", "torch.save"),
        ("torch . save(x)", "torch.save"),
        ("(torch\n.\nsave(x))", "torch.save"),
        ("aten._load(x)", "aten._load"),
        ("ops.aten.save(x)", "ops.aten.save"),
        ("ops.evil.run(x)", "ops.evil.run"),
        ("torch.classes.evil.A", "torch.classes.evil.A"),
        ("getattr(torch, 'save')", "torch"),
        ("x = r'a'", "a kind of text in which code can hide"),
        ("x = '''a'''", "a kind of text in which code can hide"),
        ("(", "can't be read (TokenError)"),
        ("import os", "import"),
    ],
)
def test_what_touches_files_or_hides(code, found):
    assert harmful_operators(code.encode()) == [found]


def test_what_is_no_code():
    assert all(harmful_operators(f"x = {sign}".encode()) for sign in "?!$`")  # Pythons say it in other words
    assert harmful_operators("x = 'é'".encode()) == ["can't be read (UnicodeDecodeError)"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_torch_writes_itself():
    layers = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.InstanceNorm3d(2), torch.nn.PReLU())
    buffer = torch.jit.script(layers).save_to_buffer()
    with zipfile.ZipFile(io.BytesIO(buffer)) as archive:
        codes = [archive.read(name) for name in archive.namelist() if name.endswith(".py")]
    assert codes and [found for code in codes for found in harmful_operators(code)] == []
