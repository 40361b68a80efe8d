"""The deployed network's own answer for a scored case, beside what was compared on the coarse grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.networks.utils import eval_mode
from monai.transforms import Compose, MapTransform
from torch import Tensor, nn

from ..grid.field_of_view import scan_geometry, share_outside
from ..grid.native import ToNativeGridd
from ..levels.network import LocateThenSegment
from ..scoring.compared import COARSE, COLUMNS, score


class SegmentScand(MapTransform):
    """Replace `pred` and `image`, on the first level's window, by what the deployed network says of the whole scan.

    Other answers for a scan are compared on the window that training used; where the scan is larger, or there is a
    second level, the answer itself is a finer one, and that of the first level is scored beside it. Where neither is so
    the item is left as it is.

    Args:
        network: what is deployed.
        inferer: (image, network) -> log-probabilities.
        preprocessing: of a path to the whole scan, as the deployed network is given it.
        device: of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        preprocessing: Compose,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(["pred"])
        self.network, self.inferer, self.preprocessing = network, inferer, preprocessing
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        result, seen = dict(data), data["image"]
        two = isinstance(self.network, LocateThenSegment)
        geometry = scan_geometry(seen)
        if not two and geometry is not None:
            to_scan, size = geometry
            if share_outside(torch.linalg.inv(to_scan), size, seen.shape[1:]) == 0:
                return result
        image = self.preprocessing({"image": str(seen.meta["filename_or_obj"])})["image"]
        if two and data.get("label") is not None:
            values = [int(value) for value in self.network.label_values]
            coarse = ToNativeGridd("found", values)({"found": data["pred"], "image": seen})["found"]
            scores = score(coarse, data["label"], values)
            column = {COARSE.column: {value: one["dice"] for value, one in scores.items()}}
            result[COLUMNS] = {**column, **result.get(COLUMNS, {})}
        with eval_mode(self.network):
            found = self.inferer(image.as_tensor()[None].to(self.device), self.network)[0]
        return {**result, "image": image, "pred": found.exp_().cpu()}
