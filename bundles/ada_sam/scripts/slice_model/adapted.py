"""What the adaptation leaves: the trained tensors beside the base weights' sha256, and one merged file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from torch import nn

from ..common.files.tensor_files import atomic_save
from ..common.launch.words import optional, path, truth
from ..common.sam.adapters.registry import merged_state
from ..common.sam.adapters.trainable_tensors import save_trainable
from ..common.sam.weights import known as weights

SMALL, MERGED = "ada_sam.safetensors", "ada_sam.pt"


class AdaptedModel:
    """Write models/ada_sam.safetensors (only what was trained) and models/ada_sam.pt (everything, adapters folded in).

    Args:
        volume: an `AdaSamVolume`, which holds the adapted network and its grid.
        folder: of the two files.
        sam, checkpoint, image_size: as the base was built; its file's sha256 goes into the small one.
        merged: write the single file too.
    """

    def __init__(
        self,
        volume: nn.Module,
        folder: str,
        sam: str,
        checkpoint: str | None = None,
        image_size: int | None = None,
        merged: bool = True,
    ) -> None:
        self.volume, self.folder, self.merged = volume, Path(path(folder)), truth("merged", merged)
        self.sam, self.checkpoint, self.image_size = sam, optional(checkpoint), image_size

    @property
    def base(self) -> dict[str, Any]:
        """Name, sha256 and image size of the frozen weights that the trained ones belong to, and the grid."""
        sha256 = weights.file_sha256(weights.find_weights(self.sam, self.checkpoint))
        buffers = ("spatial_size", "pixdim", "label_values", "slice_axis")
        grid = {name: self.volume.get_buffer(name).tolist() for name in buffers}
        return {"sam": self.sam, "sha256": sha256, "image_size": self.image_size, **grid}

    def write(self) -> None:
        """Write both files; with several processes the first one does, and all go on with what it has written."""
        network = self.volume.network
        if idist.get_world_size() > 1:
            # each process has followed the range of its own maps since its last forward
            state = network.state_dict()
            for name in network.adapted_tensors():
                torch.distributed.broadcast(state[name], 0)
        if idist.get_rank() == 0:
            save_trainable(self.folder / SMALL, network, network.adapted_tensors(), self.base)
            if self.merged:
                atomic_save(merged_state(self.volume), self.folder / MERGED)
            print(f"ADA-SAM: {self.folder / SMALL}" + (f" and {MERGED}" if self.merged else ""))
        idist.barrier()
