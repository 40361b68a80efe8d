"""A teacher that is the average of the student's past, of what is trained alone: a frozen encoder is there once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from monai.transforms import Compose, RandAdjustContrast, RandCoarseDropout, RandGaussianNoise, RandScaleIntensity
from torch import Tensor, nn

from ..common.errors import InputError


class TrainableTeacher(nn.Module):
    """Exponential moving average of a network's trained parameters (Tarvainen and Valpola 2017).

    It has no network of its own: `in_place` puts the averages where the student's parameters are. Averages are float32
    buffers, so that the objective that holds the teacher saves and resumes them. A network's buffers, such as the
    running range of its maps, are shared by both.

    Args:
        network: the student; the averages start as its parameters.
        names: of the parameters; None takes `network.trainable_parameters()`.

    Raises:
        InputError: a name the network has no parameter of, or no names.
    """

    def __init__(self, network: nn.Module, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.names = list(network.trainable_parameters() if names is None else names)
        known = dict(network.named_parameters())
        problems = [
            f"teacher: found no parameter {name}; wanted those of the network" for name in set(self.names) - set(known)
        ]
        if not self.names:
            problems.append("teacher: found no parameters to average, wanted one or more")
        if problems:
            raise InputError(sorted(problems))
        for name in self.names:
            self.register_buffer(_key(name), known[name].detach().float().clone())

    def averages(self) -> dict[str, Tensor]:
        """Return the average of each parameter by its name in the network."""
        return {name: self.get_buffer(_key(name)) for name in self.names}

    @torch.no_grad()
    def update(self, network: nn.Module, alpha: float) -> None:
        """Set every average to alpha * average + (1 - alpha) * parameter."""
        parameters = dict(network.named_parameters())
        for name, average in self.averages().items():
            average.lerp_(parameters[name].float(), 1 - alpha)

    @torch.no_grad()
    def copy_into(self, network: nn.Module) -> None:
        """Make the averages the network's parameters."""
        parameters = dict(network.named_parameters())
        for name, average in self.averages().items():
            parameters[name].copy_(average)

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[nn.Module]:
        """Let the network be the teacher for a while: averages for parameters, in eval mode, without gradients.

        Its own parameters come back as the same objects: a graph that was built with them before stays valid.
        """
        training = {module: module.training for module in network.modules()}
        own = {name: network.get_parameter(name) for name in self.names}
        try:
            for name, average in self.averages().items():
                _set(network, name, nn.Parameter(average.to(own[name].dtype), requires_grad=False))
            network.eval()
            with torch.no_grad():
                yield network
        finally:
            for name, parameter in own.items():
                _set(network, name, parameter)
            for module, mode in training.items():
                module.training = mode


def _key(name: str) -> str:
    return name.replace(".", "/")  # a buffer's name has no dots


def _set(network: nn.Module, name: str, parameter: nn.Parameter) -> None:
    holder, _, last = name.rpartition(".")
    network.get_submodule(holder).register_parameter(last, parameter)


def strong_embedding(
    embedding: Tensor, generator: torch.Generator, channel_dropout: float = 0.2, noise: float = 0.1
) -> Tensor:
    """Return the strong view of cached embeddings [N, C, h, w]: whole channels gone, noise on the rest.

    Args:
        generator: on the CPU.
        channel_dropout: share of the channels that become 0; the others grow so that the mean stays.
        noise: standard deviation of the noise, in standard deviations of each embedding.
    """
    count, channels = embedding.shape[:2]
    kept = torch.rand(count, channels, 1, 1, generator=generator) >= channel_dropout
    scale = kept.to(embedding) / (1 - channel_dropout)
    if noise > 0:
        spread = embedding.detach().flatten(1).std(1).view(-1, 1, 1, 1)
        embedding = embedding + noise * spread * torch.randn(embedding.shape, generator=generator).to(embedding)
    return embedding * scale


def strong_image(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return the strong view of slices [N, 1, rows, columns] in [0, 1]: contrast, brightness, noise and holes.

    Nothing moves, so that a mask of the slice as it is fits the view too. generator: on the CPU.
    """
    rows, columns = image.shape[-2:]
    hole = [max(1, rows // 6), max(1, columns // 6)]
    view = Compose(
        [
            RandAdjustContrast(prob=1.0, gamma=(0.6, 1.7)),
            RandScaleIntensity(factors=0.2, prob=1.0),
            RandGaussianNoise(prob=1.0, std=0.05),
            RandCoarseDropout(holes=1, max_holes=4, spatial_size=hole, prob=1.0, fill_value=0),
        ]
    )
    view.set_random_state(seed=int(torch.randint(2**31, (1,), generator=generator)))
    return torch.stack([torch.as_tensor(view(one)) for one in image]).clamp(0, 1).as_subclass(Tensor)
