"""Voxels of one class alike and of others apart, in the features of the specialist (ARCO, You et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import InputError
from ..network import Specialist
from .sampling import SAMPLINGS, by_blocks, draw

WIDTH = 32  # of the projection
SURE = 0.3  # probability from which on a voxel may stand for its class
KEPT = 0.8  # share of these, of the least entropy
ANCHORS, NEGATIVES, MEMORY = 256, 512, 512  # of a class
TEMPERATURE, EMA = 0.5, 0.99


class VoxelContrast(nn.Module):
    """A projection of the specialist's last features, and how far voxels are from the mean of their class.

    Anchors of a class are voxels that are sure of it; they are drawn to its running mean and pushed from voxels of
    other classes, from a memory of those that were drawn before. Which voxels: see `draw`. ARCO's equivariance and its
    nearest neighbours are not built.

    Args:
        network: whose body is MONAI's UNet; its last step is looked at.
        sampling: "uniform", "stratified" or "antithetic".

    Raises:
        InputError: another body or another word.
    """

    def __init__(self, network: Specialist, sampling: str) -> None:
        super().__init__()
        if sampling not in SAMPLINGS:
            raise InputError(f"contrast is {sampling!r}; wanted one of {', '.join(SAMPLINGS)}, or null")
        last = last_step(network)
        self.sampling, self.classes = sampling, network.classes
        channels = next(part.in_channels for part in last.modules() if isinstance(part, nn.ConvTranspose3d))
        self.head = nn.Sequential(nn.Conv3d(channels, 2 * WIDTH, 1), nn.ReLU(), nn.Conv3d(2 * WIDTH, WIDTH, 1))
        self.register_buffer("means", torch.zeros(self.classes, WIDTH))
        self.register_buffer("memory", torch.zeros(self.classes, MEMORY, WIDTH))
        self.register_buffer("remembered", torch.zeros(self.classes, dtype=torch.long))
        self._seen: tuple[Tensor, ...] = ()  # of the last watched forward; in a tuple no part of the module

    @contextmanager
    def watching(self, network: Specialist) -> Iterator[None]:
        """Note the features of the network's forward inside the `with` block."""

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._seen = inputs[:1]

        # not for longer: copies of the network, as of a teacher, would take the hook along
        handle = last_step(network).register_forward_pre_hook(note)
        try:
            yield
        finally:
            handle.remove()

    def forward(self, probabilities: Tensor, inside: Tensor) -> Tensor:
        """Return the loss of the forward that was watched.

        Args:
            probabilities: [B, K, H, W, D] without gradient: the label where there is one, else what is believed.
            inside: bool [B, 1, H, W, D].
        """
        features = F.normalize(self.head(self._seen[0].float()), dim=1)  # [B, c, h, w, d]
        self._seen = ()
        size = features.shape[2:]
        shares = F.adaptive_avg_pool3d(probabilities * inside, size)
        known = F.adaptive_avg_pool3d(inside.float(), size)[:, 0] > 0.5
        entropy = -(shares * shares.clamp_min(1e-6).log()).sum(1)
        sure, best = shares.max(1)
        flat = features.movedim(1, -1).flatten(1, 3)  # [B, h w d, c]
        drawn = [self._draw(flat, (best == k) & (sure > SURE) & known, entropy, size) for k in range(self.classes)]
        losses = [self._apart(k, drawn) for k in range(self.classes) if len(drawn[k])]
        self._remember(drawn)
        losses = [loss for loss in losses if loss is not None]
        return torch.stack(losses).mean() if losses else features.sum() * 0

    def _draw(self, flat: Tensor, there: Tensor, entropy: Tensor, size: torch.Size) -> Tensor:
        """Return the features [n, c] of voxels of a class, as many from each item of the batch."""
        found = []
        items = [index for index in range(len(flat)) if bool(there[index].any())]
        for index in items:
            places = there[index].flatten().nonzero()[:, 0]
            limit = entropy[index].flatten()[places].quantile(KEPT)
            places = by_blocks(places[entropy[index].flatten()[places] <= limit], size)
            count = -(-ANCHORS // len(items))
            found.append(flat[index, places[draw(len(places), count, self.sampling).to(places.device)]])
        return torch.cat(found) if found else flat.new_zeros((0, flat.shape[2]))

    def _apart(self, k: int, drawn: list[Tensor]) -> Tensor | None:
        """Return the loss of a class's anchors; None where there is nothing to push them from, as at first."""
        mean = drawn[k].detach().mean(0)
        if int(self.remembered[k]):
            mean = EMA * self.means[k] + (1 - EMA) * mean
        others = [self.memory[j, : int(self.remembered[j])] for j in range(self.classes) if j != k]
        negatives = torch.cat(others)
        if not len(negatives):
            return None
        negatives = negatives[draw(len(negatives), NEGATIVES, self.sampling).to(negatives.device)]
        positive = drawn[k] @ F.normalize(mean, dim=0) / TEMPERATURE  # [n]
        logits = torch.cat([positive[:, None], drawn[k] @ negatives.T / TEMPERATURE], dim=1)
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))

    @torch.no_grad()
    def _remember(self, drawn: list[Tensor]) -> None:
        for k, features in enumerate(drawn):
            if not len(features):
                continue
            mean = features.mean(0)
            self.means[k] = mean if not int(self.remembered[k]) else EMA * self.means[k] + (1 - EMA) * mean
            kept = torch.cat([features, self.memory[k, : int(self.remembered[k])]])[:MEMORY]
            self.memory[k, : len(kept)] = kept
            self.remembered[k] = len(kept)


def last_step(network: Specialist) -> nn.Module:
    """Return the last step of a UNet body, whose input are the last features but one; InputError for another body."""
    model = getattr(network.body, "model", None)
    last = model[-1] if isinstance(model, nn.Sequential) and len(model) == 3 else None
    if last is None or not any(isinstance(part, nn.ConvTranspose3d) for part in last.modules()):
        raise InputError(f"contrast: the network's body is {type(network.body).__name__}; wanted MONAI's UNet")
    return last
