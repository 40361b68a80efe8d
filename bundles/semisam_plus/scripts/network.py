"""What is deployed: any of MONAI's segmentation networks, with the grid that it was trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .common.errors import InputError
from .common.grid.network import BodyNetwork
from .zero_step.network import FORM, ZeroStep

ANEW = "start the server anew: the model has changed since it started"


class Specialist(BodyNetwork):
    """Segment a volume with `body`; holds no generalist and no teacher.

    Channels of `body` beyond the K classes are a method's own (DTC's level sets).

    Args:
        body, grid: see `BodyNetwork`.
        serves: whether it becomes what a model.pt holds that zero_step.json has made. In training such a model.pt is
            passed over: there is nothing in it to go on from.
    """

    def __init__(self, body: nn.Module, *grid: Any, serves: bool = False, **further: Any) -> None:
        super().__init__(body, *grid, **further)
        self.serves = serves
        self._know_size()

    def expect(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        if self.serves and f"{prefix}body.{FORM}" in tensors:
            self.body = ZeroStep.from_tensors(tensors, f"{prefix}body.").to(self.pixdim.device)
            self._know_size()
        super().expect(tensors, prefix)

    def _know_size(self) -> None:
        if isinstance(self.body, ZeroStep):
            self.window = []  # it takes any size

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        first_label = f"{prefix}body.{FORM}" in state_dict
        if first_label and not self.serves and not isinstance(self.body, ZeroStep):
            return
        if self.serves:  # a server keeps what it has read of the grid, and asks for no tensor by name
            for name, own in (("spatial_size", self.spatial_size), ("pixdim", self.pixdim)):
                found = state_dict.get(f"{prefix}{name}")
                if found is not None and not torch.allclose(found.to(own), own, rtol=1e-3):
                    raise InputError(f"model.pt: found {name} {found.tolist()}, wanted {own.tolist()}; {ANEW}")
            if state_dict and not any(name.startswith(f"{prefix}body.") for name in state_dict):
                raise InputError(f"model.pt: found no network of one level, wanted one; {ANEW}")
        super()._load_from_state_dict(state_dict, prefix, *args)
