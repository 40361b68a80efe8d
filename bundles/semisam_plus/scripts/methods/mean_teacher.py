"""Mean Teacher: agree with an average of the own past weights on a noisy view."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.learning.ema import average_into
from ..common.learning.schedules import teacher_alpha
from ..common.tensors import mean_where
from ..network import Specialist
from .base import SemiSupervisedObjective, no_loss


class MeanTeacher(SemiSupervisedObjective):
    """Squared distance of student and teacher probabilities on unlabelled items (Tarvainen and Valpola 2017).

    The teacher starts as a copy of the student. At the start of each training forward it takes over the student's
    present weights by teacher <- alpha teacher + (1 - alpha) student, alpha = min(1 - 1/(t + 1), ema_alpha): parameters
    only, as SSL4MIS does; running statistics of a batch norm are its own. It runs in training mode, dropout included.

    Args:
        ema_alpha: share of the teacher's weights kept in a step.
        noise: standard deviation of the noise on the teacher's input, in standard deviations of the image, cut off at
            twice that: SSL4MIS's 0.1 on images of unit variance, whatever their scale.
    """

    title = "Mean Teacher"
    learns_without_labels = True

    def __init__(self, network: Specialist, *, ema_alpha: float = 0.99, noise: float = 0.1, **options: Any) -> None:
        super().__init__(network, **options)
        if not 0 <= ema_alpha <= 1 or noise < 0:
            raise InputError(f"ema_alpha is {ema_alpha}, noise is {noise}; wanted 0 to 1, and 0 or more")
        self.ema_alpha, self.noise = ema_alpha, noise
        self.teacher = copy.deepcopy(network).requires_grad_(False)

    def begin_step(self, step: int) -> None:
        average_into(self.teacher, self.network, teacher_alpha(step, self.ema_alpha))
        self.teacher.train()  # whoever asked it between two steps may have left it in evaluation mode

    def begin_round(self) -> None:
        """Let the teacher begin where the network now is: in a federated round with the weights of all sites."""
        self.teacher.load_state_dict(self.network.state_dict())

    @torch.no_grad()
    def ask_teacher(self, image: Tensor) -> Tensor:
        """Return the teacher's probabilities [N, K, H, W, D] for a noisy view of the images."""
        return self.teacher(with_noise(image, self.noise)).float().softmax(1)

    def method_losses(self, batch: dict[str, Tensor], output: Tensor, progress: float) -> dict[str, Tensor]:
        unlabeled = ~batch["labeled"].bool()
        if not bool(unlabeled.any()):
            return {"consistency": no_loss(output)}
        taught = self.ask_teacher(batch["image"][unlabeled])
        distance = (self.probabilities(output[unlabeled]) - taught).square()
        return {"consistency": mean_where(distance, self.inside(batch)[unlabeled])}


def with_noise(image: Tensor, noise: float) -> Tensor:
    """Return images [N, 1, H, W, D] with Gaussian noise of `noise` standard deviations of each, cut off at twice it."""
    if noise == 0:
        return image
    spread = image.float().flatten(1).std(1).view(-1, 1, 1, 1, 1)
    return image + (noise * spread * torch.randn_like(image).clamp(-2, 2)).to(image.dtype)
