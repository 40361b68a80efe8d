from __future__ import annotations

import torch

from common.grid.grid import read_grid


def test_grid_travels_in_the_model_file(tmp_path):
    default = {"spatial_size": [8, 8, 8], "pixdim": [1.0, 1.0, 1.0], "label_values": [0, 1]}
    assert read_grid(None, default) == default
    assert read_grid(str(tmp_path / "model.pt"), default) == default
    grid = {"spatial_size": [16, 24, 8], "pixdim": [1.25, 0.9766, 5.0], "label_values": [0, 3, 500]}
    torch.save({name: torch.tensor([float(v) for v in value]) for name, value in grid.items()}, tmp_path / "model.pt")
    assert read_grid(str(tmp_path / "model.pt"), default) == grid
