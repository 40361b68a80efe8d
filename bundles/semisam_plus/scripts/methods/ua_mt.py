"""UA-MT: a Mean Teacher that is believed only where it is certain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..common.errors import InputError
from ..network import Specialist
from .base import no_loss
from .mean_teacher import MeanTeacher
from .schedules import entropy_threshold


class UncertaintyAwareMeanTeacher(MeanTeacher):
    """Mean Teacher over the voxels where the entropy of the mean of several noisy teacher passes is low (Yu 2019).

    The threshold rises from (3/4 + e^-5/4) to all of ln K; the paper has K = 2. As in SSL4MIS the target is one further
    noisy pass, not the mean. A network without dropout gets its uncertainty from the noise alone.

    Args:
        passes: noisy passes of the teacher for the entropy, 8 in the paper; each costs a forward.
    """

    title = "UA-MT"

    def __init__(self, network: Specialist, *, passes: int = 8, **options: Any) -> None:
        super().__init__(network, **options)
        if passes < 1:
            raise InputError(f"passes is {passes}; wanted 1 or more")
        self.passes = passes

    @torch.no_grad()
    def certain(self, image: Tensor, progress: float) -> Tensor:
        """Return 1 where the teacher is certain, else 0 [N, 1, H, W, D]."""
        mean = torch.stack([self.ask_teacher(image) for _ in range(self.passes)]).mean(0)
        entropy = -(mean * torch.log(mean + 1e-6)).sum(1, keepdim=True)
        return (entropy < entropy_threshold(progress, self.network.classes)).float()

    def method_losses(self, batch: dict[str, Tensor], output: Tensor, progress: float) -> dict[str, Tensor]:
        unlabeled = ~batch["labeled"].bool()
        if not bool(unlabeled.any()):
            return {"consistency": no_loss(output)}
        image = batch["image"][unlabeled]
        certain = self.certain(image, progress) * self.inside(batch)[unlabeled]
        distance = (self.probabilities(output[unlabeled]) - self.ask_teacher(image)).square().mean(1, keepdim=True)
        return {"consistency": (certain * distance).sum() / (certain.sum() + 1e-8)}
