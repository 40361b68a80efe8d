"""Distillation of a frozen image encoder's features into a light 3D encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tensors import match_grid


class FeatureDistillation(nn.Module):
    """Mean squared error between projected student features and standardised teacher features.

    The teacher's channels are standardised with the mean and deviation given to `standardise_by` (of the training
    cohort), so that a few channels of large scale do not make up the loss; a 1x1x1 convolution brings the student's
    width to the teacher's and is dropped afterwards. Matches L_rec of RRL-MedSAM (elementwise mean, as De-LightSAM's
    public code).

    Args:
        student_channels, teacher_channels: widths.

    forward: student [B, C, h, w, d], teacher [B, T, h', w', d'] (any grid; brought to the student's) -> scalar
    """

    def __init__(self, student_channels: int, teacher_channels: int = 256) -> None:
        super().__init__()
        self.project = nn.Conv3d(student_channels, teacher_channels, 1)
        self.register_buffer("mean", torch.zeros(1, teacher_channels, 1, 1, 1))
        self.register_buffer("deviation", torch.ones(1, teacher_channels, 1, 1, 1))

    def standardise_by(self, features: list[Tensor]) -> None:
        """Take mean and deviation of each channel over a list of [T, h, w, d] teacher features."""
        means = torch.stack([f.float().flatten(1).mean(1) for f in features])
        squares = torch.stack([f.float().flatten(1).square().mean(1) for f in features])
        mean = means.mean(0)
        deviation = (squares.mean(0) - mean * mean).clamp_min(1e-6).sqrt()
        self.mean.copy_(mean.view_as(self.mean))
        self.deviation.copy_(deviation.view_as(self.deviation))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        target = (teacher.float() - self.mean) / self.deviation
        target = match_grid(target, student.shape[2:])
        return F.mse_loss(self.project(student).float(), target)
