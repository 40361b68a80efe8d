"""The kinds of adapters by name: how each is put on an image encoder, what of it is trained, how it is folded in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ...errors import InputError
from .bottleneck import add_bottlenecks, bottleneck_parameters
from .fact import add_factors, factor_parameters
from .lora import add_lora, folded_lora, lora_parameters


@dataclass(frozen=True)
class Adapter:
    """A kind of adapters: a few new tensors on a frozen image encoder, which are trained in place of its own.

    add: (encoder, rank) -> the names of the new parameters. The encoder computes the same as before until they are
        trained, and its own parameters keep their names; raises `InputError` where it can't be.
    parameters: the names of all parameters of such adapters in a module, at any depth; none where there are none.
    folded: the tensors, by their names in a module, that let one without adapters compute the same; None where the
        adapters can't be folded in, and a merged file keeps them.
    """

    add: Callable[[nn.Module, int], list[str]]
    parameters: Callable[[nn.Module], list[str]]
    folded: Callable[[nn.Module], dict[str, Tensor]] | None


ADAPTERS: dict[str, Adapter] = {
    "lora": Adapter(add_lora, lora_parameters, folded_lora),
    "bottleneck": Adapter(add_bottlenecks, bottleneck_parameters, None),
    "fact": Adapter(add_factors, factor_parameters, None),
}


def adapter_problems(name: str) -> list[str]:
    """Return what is wrong with the name of a kind of adapters; nothing where it is known."""
    return [] if name in ADAPTERS else [f"adapter: found {name!r}, wanted one of {', '.join(ADAPTERS)}"]


def add_adapter(name: str, encoder: nn.Module, rank: int) -> list[str]:
    """Put adapters of a kind on an image encoder and return the names of the new parameters.

    Raises:
        InputError: an unknown name, or what the kind's `add` raises.
    """
    if problems := adapter_problems(name):
        raise InputError(problems)
    return ADAPTERS[name].add(encoder, rank)


def adapter_parameters(module: nn.Module) -> list[str]:
    """Return the names of all adapters' parameters in `module`, of every kind and at any depth."""
    return [name for adapter in ADAPTERS.values() for name in adapter.parameters(module)]


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the whole state of `module`, adapters folded in: it loads strictly into one built without adapters.

    Adapters that can't be folded in stay: the state loads into one built with them.
    """
    state = {name: value.detach() for name, value in module.state_dict().items()}
    for adapter in ADAPTERS.values():
        if adapter.folded is not None:
            for name in adapter.parameters(module):
                del state[name]
            state |= {name: value.detach() for name, value in adapter.folded(module).items()}
    return state
