"""The deployed network's own answer for a scored case, beside what was compared on the coarse grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import Compose, MapTransform
from torch import Tensor, nn

from ..grid.field_of_view import scan_geometry, share_outside
from ..grid.native import ToNativeGridd
from ..levels.network import LocateThenSegment
from ..scoring.compared import COARSE, COLUMNS, PLAIN, Compared, score


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
        control: of the method (`PlainControl`); its answer is scored beside, where it has been trained. None: none.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        preprocessing: Compose,
        device: str | torch.device = "cpu",
        control: Any = None,
    ) -> None:
        super().__init__(["pred"])
        self.control = control
        self.network, self.inferer, self.preprocessing = network, inferer, preprocessing
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        result, seen = dict(data), data["image"]
        two = isinstance(self.network, LocateThenSegment)
        geometry, columns = scan_geometry(seen), dict(result.get(COLUMNS, {}))
        within = False
        if not two and geometry is not None:
            to_scan, size = geometry
            within = share_outside(torch.linalg.inv(to_scan), size, seen.shape[1:]) == 0
        if not within:
            image = self.preprocessing({"image": str(seen.meta["filename_or_obj"])})["image"]
            result |= {"image": image, "pred": self.answer(self.network, image)}
        if two:
            columns = {**self.column(COARSE, data["pred"], seen, data.get("label")), **columns}
        control = None if self.control is None else self.control.deployed
        if control is not None:
            image = result["image"]
            columns |= self.column(PLAIN, self.answer(control, image), image, data.get("label"))
        return {**result, COLUMNS: columns}

    def answer(self, network: nn.Module, image: MetaTensor) -> Tensor:
        """Return the probabilities [K, H, W, D] of a network for an image [1, H, W, D]."""
        with eval_mode(network):
            found = self.inferer(image.as_tensor()[None].to(self.device), network)[0]
        return found.exp_().cpu()

    def column(self, what: Compared, found: Tensor, image: MetaTensor, label: Tensor | None) -> dict[str, Any]:
        """Return the column of what is compared, by label value, on the scan's own voxels; {} without a label."""
        if label is None:
            return {}
        values = [int(value) for value in self.network.label_values]
        native = ToNativeGridd("found", values)({"found": found, "image": image})["found"]
        return {what.column: {value: one["dice"] for value, one in score(native, label, values).items()}}
