from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, Dataset
from torch import nn

from common.files.tensor_files import load_tensors
from common.training.checkpoint import StageCheckpoint
from common.training.sampling import StreamSampler
from common.training.trainer import ObjectiveTrainer

ROOT = Path(__file__).resolve().parents[4]

DISTRIBUTED = """
import sys
import torch, torch.distributed as dist
sys.path[:0] = [{root!r}, {tests!r}]
from test_trainer_distributed import train_without_chance
dist.init_process_group("gloo")
train_without_chance({folder!r}, dist.get_rank(), dist.get_world_size())
dist.destroy_process_group()
"""


def train_without_chance(folder, rank, world_size):
    """Train on 6 cases, 2 a step over all processes, and write the weights of this process."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv3d(3, 1, 1))
    unused = nn.Linear(2, 2)

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.unused = network, unused

        def forward(self, batch):
            return {"loss": (self.network(batch["image"]) - 2 * batch["image"]).square().mean()}

    objective = Plain()
    images = torch.rand(6, 1, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    dataset = Dataset([{"case": f"case_{i}", "image": image} for i, image in enumerate(images)])
    sampler = StreamSampler(dataset, 6, num_replicas=world_size, rank=rank)
    loader = DataLoader(dataset, batch_size=2 // world_size, sampler=sampler)
    checkpoint = StageCheckpoint(f"{folder}/train.pt", "train")
    writes = []
    save = checkpoint.save
    checkpoint.save = lambda engine: (writes.append(engine.state.rank == 0), save(engine))
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    ObjectiveTrainer("cpu", 3, loader, network, objective, optimizer, train_handlers=[checkpoint]).run()
    torch.save({"weights": objective.state_dict(), "writes": sum(writes)}, f"{folder}/rank_{rank}_of_{world_size}.pt")


@pytest.mark.slow
def test_two_processes_equal_one_and_write_one_checkpoint(tmp_path):
    train_without_chance(str(tmp_path), 0, 1)
    (tmp_path / "train.pt").unlink()
    program = tmp_path / "program.py"
    program.write_text(DISTRIBUTED.format(root=str(ROOT), tests=str(Path(__file__).parent), folder=str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone, first, second = (
        torch.load(tmp_path / f"rank_{name}.pt", weights_only=True) for name in ("0_of_1", "0_of_2", "1_of_2")
    )
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name])
        torch.testing.assert_close(weight, alone["weights"][name], rtol=0, atol=1e-5)
    assert (first["writes"], second["writes"]) == (3, 0)
    assert sorted(path.name for path in tmp_path.glob("train.pt*")) == ["train.pt", "train.pt.previous"]
    assert load_tensors(tmp_path / "train.pt")["epoch"] == 3
