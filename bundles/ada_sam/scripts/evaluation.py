"""What stands beside the deployed model in every table: ADA-SAM itself, slice by slice, and a plain UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose
from torch import Tensor, nn

from .common.sam.features.slice_features import context_planes
from .common.scoring.compared import AddComparedd, Compared
from .common.tensors import plain
from .learning.slice_unet import segment_slices
from .network import AdaSamVolume
from .volume.volume_inference import VolumeInference
from .volume.within_scan import segment_scan

ITSELF = Compared("itself", "ADA-SAM itself", "itself dice")
SLICES = Compared("slices", "ADA-SAM slice by slice", "slices dice")
UNET = Compared(
    "unet", "2D UNet of the same masks", "unet dice",
    control="--unet_share 1 lets it alone teach the segmenter, --plain_control true compares with a 3D one",
)  # fmt: skip


class AddAdaSamd(AddComparedd):
    """Add ADA-SAM's own answers, and those of the network that learnt the same masks and bits without any SAM.

    ADA-SAM prompts itself, as at a site: nothing here gives it a box, a bit or a mask of the case, and the label is
    looked at only by the metric.

    Args:
        volume: ADA-SAM; None leaves everything out, for an evaluation of the model alone.
        preprocessing: of a path to what ADA-SAM sees of a scan, for one that isn't on its grid; None where `volume` is.
        network: what is deployed; where it is `volume`, its answer is the prediction and no column beside it.
        unet: network of `SliceUNetObjective`; None leaves it out, as it is where `volume` is None.
    """

    def __init__(
        self,
        label_values: Sequence[int],
        volume: AdaSamVolume | None,
        preprocessing: Compose | None,
        network: nn.Module | None = None,
        unet: nn.Module | None = None,
    ) -> None:
        super().__init__(label_values)
        self.volume, self.preprocessing, self.unet = volume, preprocessing, unet
        self.inferences: dict[Compared, VolumeInference] = {}
        if volume is not None:
            own = {} if network is volume else {ITSELF: volume.inference}
            self.inferences = {**own, SLICES: slice_by_slice(volume.inference)}

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.volume is None or self.preprocessing is None or list(data["image"].shape[1:]) == self.volume.window:
            return super().__call__(data)  # it is on the grid of SAM's slices, or nobody wants it there
        seen = self.preprocessing({"image": str(data["image"].meta["filename_or_obj"])})["image"]
        return {**super().__call__({**data, "image": seen}), "image": data["image"]}

    @torch.no_grad()
    def opinions(self, data: Mapping[str, Any]) -> dict[Compared | str, Tensor]:
        found: dict[Compared | str, Tensor] = {}
        if self.volume is None:
            return found
        image = plain(data["image"])
        embeddings = self.volume.embed(image)
        for way, inference in self.inferences.items():
            found[way] = segment_scan(inference, embeddings, data["image"]).probabilities.cpu()
        if self.unet is not None:
            axis = self.volume.inference.slice_axis
            planes = context_planes(self.volume.grey(image), axis, self.volume.context)
            found[UNET] = segment_slices(self.unet, planes, axis).cpu()
        return found


def slice_by_slice(inference: VolumeInference) -> VolumeInference:
    """Return the same network led through a volume without smoothing, medians or masks handed on along the slices."""
    return VolumeInference(
        inference.network, inference.slice_axis, presence_sigma=0.0, use_extents=False, longest_run=False,
        cam_scope="running", cam_sigma=0.0, box_median=1, passes=1, propagate=False, smooth=0.0,
        largest_component=False,
    )  # fmt: skip
