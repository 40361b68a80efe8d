"""A tiny specialist and a batch for it: two classes beside the background, labelled items among unlabelled ones."""

from __future__ import annotations

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional as F

from support.bundle.path import import_bundle

Specialist = import_bundle("semisam_plus", "network").Specialist
CLASSES = 3


def make_network(channels: int = CLASSES, body: nn.Module | None = None, seed: int = 0) -> Specialist:
    """Return a small UNet, or `body`, for 16^3 voxels."""
    torch.manual_seed(seed)
    body = UNet(3, 1, channels, (4, 8), (2,), norm="instance") if body is None else body
    return Specialist(body, (16, 16, 16), (1, 1, 1), range(CLASSES))


def make_batch(labeled: tuple[bool, ...] = (True, False, False), answers: bool = True) -> dict[str, Tensor]:
    """Return images of blobs, labels (zeros where unlabelled), and answers that differ a little from the truth."""
    generator = torch.Generator().manual_seed(1)
    axes = torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij"))
    images, truths = [], []
    for shift in torch.rand(len(labeled), 3, generator=generator) * 4 + 6:
        distance = (axes - shift.view(3, 1, 1, 1)).norm(dim=0)
        truth = (distance < 5).long() + (distance < 2.5).long()
        images.append((truth * 0.4 + 0.1 * torch.rand(truth.shape, generator=generator))[None])
        truths.append(F.one_hot(truth, CLASSES).movedim(-1, 0).float())
    truth, known = torch.stack(truths), torch.tensor(labeled)
    batch = {"image": torch.stack(images), "label": truth * known.view(-1, 1, 1, 1, 1), "labeled": known}
    if answers:
        disagreement = 0.2 * torch.rand(len(labeled), 1, 16, 16, 16, generator=generator)
        batch |= {"answer": truth.roll(1, dims=2), "disagreement": disagreement, "answer_weight": (~known).float()}
    return batch


def gradients(objective: nn.Module, batch: dict[str, Tensor], key: str = "loss", seed: int = 5):
    """Return a loss, and its gradient on every parameter that has one, by name."""
    objective.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    loss = objective(batch)[key]
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
