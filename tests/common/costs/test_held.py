from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from common.costs.held import folder_size, held_mib


def test_a_tensor_counts_once_however_many_look_at_it():
    before = held_mib()
    tensor = torch.zeros(2**20)  # 4 MiB
    views = [tensor[::2], tensor.view(2, -1)]
    assert 4 <= held_mib() - before < 4.5
    del tensor, views
    assert held_mib() - before < 0.5


def test_what_an_export_leaves_has_no_memory():
    before = held_mib()
    with FakeTensorMode():
        left = torch.zeros(2**20)  # 4 MiB, were it one
    assert left.shape == (2**20,) and held_mib() - before < 0.5  # other tests' objects may go in the meantime


def test_files_below_a_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "one").write_bytes(b"12345")
    (tmp_path / "deep" / "two").write_bytes(b"678")
    assert folder_size(tmp_path) == 8 and folder_size(tmp_path / "none") == 0
