"""What is deployed: a light 3D network (Segmenter), or ADA-SAM itself as a network of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .common.files.tensor_files import load_tensors
from .common.grid.grid import Grid
from .common.grid.network import BodyNetwork, GridNetwork
from .common.launch.words import optional, optional_number
from .common.sam.features.volume import encode_volume
from .common.tensors import grey
from .slice_model.ada_sam import AdaSam
from .volume.volume_inference import VolumeInference


class Segmenter(BodyNetwork):
    """Segment a volume with `body`; holds no SAM and needs neither presence bits nor prompts."""


class AdaSamVolume(GridNetwork):
    """Segment a volume slice by slice with ADA-SAM, which prompts itself: encoder, prompts, decoder, the axis between.

    It is what models/ada_sam.pt holds, adapters folded in. Its buffers (`spatial_size`, `pixdim` in mm, `label_values`,
    `slice_axis`) say all that serves it. It loops over slices and decides from values, so TorchScript can't export it;
    `Segmenter` is what is exported.

    Args:
        network: of slices.
        slice_axis: 0, 1 or 2 of the grid.
        grid: of the volume; K is the number of its label values.
        context: 2.5D: the channels of slice z are the slices z - context, z, z + context; 0: grey three times.
        channel: of an image of several, that it sees; None: the mean of all. Kept as the buffer `sam_channel`, -1 for
            the mean.
        largest_component: of which label values the largest part alone is kept, see `VolumeInference`; None: of those
            that are one piece (`know_pieces`), and of all where that isn't known, as in an ada_sam.pt of before.
        options: how it is led through a volume otherwise, see `VolumeInference`.

    Attributes:
        inference: that leads it.

    forward: image [B, C, H, W, D] in [0, 1] -> log-probabilities [B, K, H, W, D] float32; needs no gradient and makes
        none.
    """

    def __init__(
        self,
        network: AdaSam,
        slice_axis: int,
        grid: Grid,
        context: int = 0,
        channel: int | None = None,
        largest_component: bool | Sequence[int] | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(grid.spatial_size, grid.pixdim, grid.label_values, intensity_range=grid.intensity_range)
        self.network = network
        largest_component = optional(largest_component)
        self.by_pieces = largest_component is None
        options["largest_component"] = True if largest_component is None else largest_component
        self.inference = VolumeInference(network, slice_axis, label_values=grid.label_values, **options)
        self.context = int(context)
        self.register_buffer("slice_axis", torch.tensor(float(slice_axis)))
        channel = optional_number("sam_channel", channel, whole=True, least=0)
        if self.channels > 1:
            self.register_buffer("sam_channel", torch.tensor(-1.0 if channel is None else float(channel)))

    def know_pieces(self, one_piece: Sequence[bool]) -> None:
        super().know_pieces(one_piece)
        self._keep_pieces()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._keep_pieces()

    def _keep_pieces(self) -> None:
        if self.by_pieces and hasattr(self, "one_piece"):
            self.inference.component_classes = self.one_piece[1:].nonzero()[:, 0].tolist()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        size = tuple(image.shape[2:])
        # outside the inferer's autocast: encoder and decoder choose their own, and positions want float32
        with torch.autocast(image.device.type, enabled=False):
            found = torch.stack([self.inference(self.embed(one), size, None).probabilities for one in image])
        return found.to(image.device).float().clamp_min(1e-7).log()

    @torch.no_grad()
    def embed(self, image: Tensor) -> Tensor:
        """Encode all slices of an image [C, H, W, D]: [n, C, h, w] float32, the padding of the encoder included."""
        axis = self.inference.slice_axis
        image = self.grey(image)[None].float().to(self.slice_axis.device)
        maps = encode_volume(
            self.network.sam, image, axis + 2, keep_padding=True, context=self.context, amp=self.network.amp
        )
        return maps[0].movedim(axis + 1, 0)  # [C, ., ., .] -> [n, C, h, w]

    def grey(self, image: Tensor) -> Tensor:
        """Return what is seen of an image [C, H, W, D], [1, H, W, D]."""
        chosen = int(self.sam_channel) if self.channels > 1 else -1
        return grey(image, None if chosen < 0 else chosen)


def read_slice_axis(path: str | None, default: int = 2) -> int:
    """Return the slicing axis that ada_sam.pt carries, or the default where there is no such file."""
    if not path or not Path(path).expanduser().exists():
        return default
    return int(load_tensors(path)["slice_axis"])


def slice_size(spatial_size: Sequence[int], slice_axis: int) -> tuple[int, int]:
    """Return rows and columns of the slices of a grid: its other two axes, in their order."""
    rows, columns = (int(n) for axis, n in enumerate(spatial_size) if axis != int(slice_axis))
    return rows, columns
