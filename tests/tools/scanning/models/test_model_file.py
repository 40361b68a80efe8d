from __future__ import annotations

import argparse
import io
import json
import zipfile

import pytest
import torch
from safetensors.torch import save

from tools.scanning.findings import Finding, read_allow_list
from tools.scanning.models.model_file import scan_model

EMPTY = b"\x80\x02}."


@pytest.fixture(scope="module")
def allow():
    return read_allow_list()


def scan(content: bytes, allow, path: str = "models/model.pt"):
    return list(
        scan_model(path, io.BytesIO(content), allow, lambda path, text: iter([Finding("seen", path, text, "x")]))
    )


def refused(content: bytes, allow, path: str = "models/model.pt") -> list[str]:
    return [finding.what for finding in scan(content, allow, path) if not finding.allowed]


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def archive(members: dict[str, bytes], top: str = "model", **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as file:
        for name, content in members.items():
            file.writestr(f"{top}/{name}", content)
    return buffer.getvalue()


def test_a_state_dict_passes(allow):
    state = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2)).state_dict()
    found = scan(saved(state), allow)
    assert {f.what for f in found} == {
        *("collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage", "torch.LongStorage")
    }
    assert all(finding.allowed for finding in found)


def test_everything_else_in_a_checkpoint_is_refused(allow):
    assert refused(saved({"args": argparse.Namespace(a=1)}), allow) == ["argparse.Namespace"]
    assert "torch.nn.modules.conv.Conv3d" in refused(saved(torch.nn.Conv3d(1, 2, 3)), allow)
    assert "bare pickle" in refused(saved({}, _use_new_zipfile_serialization=False), allow)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_passes_with_its_extra_files_looked_at(allow):
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Conv3d(1, 2, 3)
            self.size = [1, 2]

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.body(image) + self.size[0]

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Network()), buffer, _extra_files={"inference.json": json.dumps({"a": 1})})
    found = scan(buffer.getvalue(), allow, "models/model.ts")
    assert [f for f in found if not f.allowed] == [
        Finding("seen", "models/model.ts!extra/inference.json", '{"a": 1}', "x")
    ]
    assert any("__torch__" in finding.what for finding in found)
    renamed = scan(archive({"data.pkl": b"c__torch__\nx\n."}), allow)  # such names mean nothing in a plain checkpoint
    assert [f.what for f in renamed if not f.allowed] == ["__torch__.x"]


@pytest.mark.parametrize(
    "code",
    ["torch.save(x, 'y')", "y = torch.from_file('x', True, 1)", "ops.aten.save(x, 'y')", "y = ops.evil.run(x)"],
)
def test_torchscript_that_touches_files_or_libraries_is_refused(code, allow):
    members = {"data.pkl": EMPTY, "constants.pkl": EMPTY, "code/__torch__.py": code.encode()}
    assert len(refused(archive(members), allow)) == 1
    members["code/__torch__.py"] = b"y = torch.conv3d(x)\nz = ops.prim.RaiseException('x')\nself.save_it = 1"
    assert refused(archive(members), allow) == []


@pytest.mark.parametrize(
    "name", ["evil.pkl", "code/a.py", "extra/a.json", "lib.so", "data/x", "more/data.pkl", "../data/0"]
)
def test_members_that_are_no_part_of_a_state_dict_are_refused(name, allow):
    assert refused(archive({"data.pkl": EMPTY, "data/0": b"\x80", name: b"x"}), allow)


def test_archives_that_two_readers_would_read_differently_are_refused(allow):
    good = archive({"data.pkl": EMPTY})
    assert refused(good, allow) == []
    assert refused(b"PK\x03\x04" + good, allow)
    assert refused(good[:-2] + b"\x01\x00x", allow)  # a comment
    buffer = io.BytesIO(good)
    with pytest.warns(UserWarning), zipfile.ZipFile(buffer, "a") as file:
        file.writestr("model/data.pkl", EMPTY)
    assert refused(buffer.getvalue(), allow)
    buffer = io.BytesIO(good)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("other/data.pkl", EMPTY)
    assert refused(buffer.getvalue(), allow)


def test_bombs_and_broken_archives_are_refused(allow):
    bomb = archive({"data.pkl": b"\0" * (8 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert refused(bomb, allow)
    assert refused(archive({"data.pkl": EMPTY})[:-30], allow)
    assert refused(archive({"version": b"3"}), allow)
    assert refused(b"", allow)


def test_safetensors(allow):
    content = save({"a": torch.zeros(2)})
    assert refused(content, allow, "models/model.safetensors") == []
    assert refused(content[:20], allow, "models/model.safetensors")
    assert refused(b"", allow, "models/model.safetensors")
