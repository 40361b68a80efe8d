"""A volume whose grid goes on beyond its scan: the slices that were scanned alone are led through."""

from __future__ import annotations

import torch
from torch import Tensor

from ..common.grid.field_of_view import inside_scan
from .volume_inference import VolumeAnswer, VolumeInference


@torch.no_grad()
def segment_scan(
    inference: VolumeInference, embeddings: Tensor, image: Tensor, bits: Tensor | None = None
) -> VolumeAnswer:
    """Segment the slices of a grid that the scan has; the others have no say in any of it.

    Args:
        embeddings, bits: as for `VolumeInference`, of all slices.
        image: [1, H, W, D] on the grid, see `inside_scan`.

    Returns:
        a `VolumeAnswer` of all slices. Beyond the scan all classes have a probability of 0, nothing is on a slice, and
        that is sure.
    """
    axis = inference.slice_axis
    inside = inside_scan(image)[0].to(embeddings.device)  # [H, W, D]
    there = scanned_slices(inside, axis)
    if bool(inside.all()) or not bool(there.any()):
        return inference(embeddings, tuple(inside.shape), bits)
    size = list(inside.shape)
    size[axis] = int(there.sum())
    own = inference(embeddings[there], size, None if bits is None else bits[:, there.to(bits.device)])

    def spread(values: Tensor, along: int, beyond: float = 0) -> Tensor:
        shape = [len(there) if a == along else n for a, n in enumerate(values.shape)]
        return values.new_full(shape, beyond).index_copy_(along, there.nonzero()[:, 0], values)

    return VolumeAnswer(
        probabilities=spread(own.probabilities, axis + 1).mul_(inside),
        presence=spread(own.presence, 1),
        gate=spread(own.gate, 1),
        boxes=spread(own.boxes, 1),
        confidence=spread(own.confidence, 1, 1.0),
        runs=own.runs,
    )


def scanned_slices(inside: Tensor, slice_axis: int) -> Tensor:
    """Return which slices of a grid the scan has, bool [n], by where it is `inside`, bool [H, W, D]."""
    return inside.movedim(slice_axis, 0).flatten(1).any(1)
