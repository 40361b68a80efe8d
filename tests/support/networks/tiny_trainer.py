"""A trainer of one linear layer."""

from __future__ import annotations

import os

import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandGaussianNoised, RandScaleIntensityd
from torch import nn

from common.learning.ema import MutualEMA
from common.training.checkpoint import StageCheckpoint
from common.training.progress import ProgressBar
from common.training.sampling import StreamSampler
from common.training.trainer import ObjectiveTrainer


class Objective(nn.Module):
    """Two small networks with dropout and a random switch, as an objective with prompt dropout has."""

    def __init__(self) -> None:
        super().__init__()
        self.general, self.medical = (
            nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.Dropout(0.3), nn.Conv3d(3, 1, 1)) for _ in range(2)
        )

    def forward(self, batch):
        keep = (torch.rand(batch["image"].shape[0]) > 0.5).float().view(-1, 1, 1, 1, 1)
        general = (self.general(batch["image"]) - 2 * batch["image"]).float().square().mean()
        medical = (keep * self.medical(batch["image"]) - batch["image"]).float().square().mean()
        return {"loss": general + medical, "general": general, "medical": medical}


def make_trainer(folder, resume=False, epochs=4, seed=0, extra=(), nan_case=None, clip_norm=5.0, objective=None):
    torch.manual_seed(seed)
    objective = objective or Objective()
    images = torch.rand(5, 1, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    data = [{"case": f"case_{i}", "image": image} for i, image in enumerate(images)]
    if nan_case is not None:
        data[nan_case]["image"] = torch.full((1, 6, 6, 6), float("nan"))
    transform = Compose(
        [
            EnsureTyped("image"),  # MetaTensors, as a loaded volume is
            RandFlipd("image", prob=0.5),
            RandScaleIntensityd("image", 0.3, prob=0.7),
            RandGaussianNoised("image", prob=0.7, std=0.1),
        ]
    )
    dataset = Dataset(data, transform)
    sampler = StreamSampler(dataset, num_samples=6, seed=seed)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=0.02)
    progress = ProgressBar("train", stream=open(os.devnull, "w"))
    checkpoint = StageCheckpoint(str(folder / "train.pt"), "train", seed, resume=resume)
    ema = MutualEMA(objective.general, objective.medical, ema_every=2) if hasattr(objective, "general") else None
    trainer = ObjectiveTrainer(
        "cpu",
        epochs,
        loader,
        network=getattr(objective, "general", objective),
        objective=objective,
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12),
        clip_norm=clip_norm,
        train_handlers=[progress, *([ema] if ema else []), *extra, checkpoint],
    )
    trainer.stateful["progress"] = progress
    return trainer
