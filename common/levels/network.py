"""One deployed network of two levels: the coarse one finds where, the fine one says what is there."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from ..grid.native import sample_probabilities, slabs
from ..grid.network import BodyNetwork, GridNetwork
from ..grid.to_grid import along_axis, axis_matrix, count_voxels, first_voxel, whole_size
from .pieces import keep_largest
from .regions import find_regions, scale_box
from .windows import LARGE, probabilities, windowed, windowed_rows

MARGIN = 10.0  # mm around what the coarse network found
LEAST = 1e-7  # probability
OVERLAP = 0.5  # of two fine windows; a quarter costs a third, and .07 Dice of 13 organs (docs/clinical.md)
LESS = 0.25  # of a region with the volume of more than so many windows: a whole body is not to take ten minutes
MANY = 40


class LocateThenSegment(GridNetwork):
    """Segment a whole scan: `coarse` sees all of it, `fine` sees windows of the regions in which that found something.

    Outside of the regions is background; a scan in which nothing is found gets background everywhere. The fine network
    sees the image alone: the coarse map as an input cost .08 Dice with four labels of the left atrium. Of a class
    that it knows as one piece the largest is kept. Where it is refused (`refuse_unlearnt`) the coarse network answers
    alone.

    Its state is that of both networks, with the coarse one's grid under the names that every model.pt has. It decides
    from values, so TorchScript and ONNX take the two networks one by one (`coarse`, `fine`).

    Args:
        coarse: image [B, C, *window] -> logits [B, K, ...], on voxels of its `pixdim`.
        fine: the same, finer.
        overlap: of the fine windows; None: see `fine_overlap`.

    forward: image [B, C, H, W, D] in [0, 1] of any size, on voxels of the fine network's `pixdim` -> log-probabilities
        [B, K, H, W, D], float32; float16 where that would be over 1 GB.
    """

    def __init__(self, coarse: GridNetwork, fine: BodyNetwork, overlap: float | None = None) -> None:
        strides = coarse.strides.tolist() if hasattr(coarse, "strides") else None
        ranges = coarse.intensity_range.tolist() if hasattr(coarse, "intensity_range") else (None,)
        super().__init__(coarse.window, coarse.pixdim.tolist(), coarse.label_values.tolist(), strides, ranges)
        self.coarse, self.fine, self.overlap = coarse, fine, overlap
        self.window = []  # it takes any size

    @property
    def refused(self) -> bool:
        """Whether the fine network has learnt less than the coarse one, which then answers alone."""
        return self.fine.refused

    def deployed(self) -> GridNetwork:
        """Return what is kept in a model.pt: the coarse network alone where the fine one is refused."""
        return self.coarse if self.refused else self

    @torch.jit.unused
    def forward(self, image: Tensor) -> Tensor:
        return self.segment(image) if len(image) == 1 else torch.cat([self.segment(one[None]) for one in image])

    def segment(self, image: Tensor) -> Tensor:
        """Return the log-probabilities [1, K, H, W, D] of one image [1, C, H, W, D]."""
        seen = CoarseView(image.shape[2:], self.fine.pixdim.tolist(), self.coarse.pixdim.tolist(), self.coarse.window)
        with torch.autocast(image.device.type, enabled=False):  # positions want float32
            small = seen.resample(image[0].float())[None]  # [1, 1, h, w, d]
        found = windowed(small, probabilities(self.coarse), self.coarse.window)[0]
        margin = [MARGIN / p for p in self.coarse.pixdim.tolist()]
        size = (1, self.classes, *image.shape[2:])
        kind = torch.float32 if prod(size) <= LARGE else torch.float16
        result = torch.zeros(size, dtype=kind, device=image.device)
        result[:, 0] = 1
        if self.refused:
            for slab in slabs([slice(0, n) for n in image.shape[2:]], self.classes):
                result[(0, slice(None), *slab)] = sample_probabilities(found, seen.to_coarse(), slab)
            return result.clamp_min_(LEAST).log_()
        for box in find_regions(found, margin):
            place = (slice(None), slice(None), *seen.to_image(box, self.fine.window))
            region, predictor = result[place], probabilities(self.fine)  # [1, K, h, w, d]
            overlap = fine_overlap(region.shape[2:], self.fine.window) if self.overlap is None else self.overlap
            for rows, probability in windowed_rows(image[place], predictor, self.fine.window, overlap):
                region[:, :, rows] = probability
        if hasattr(self.fine, "one_piece"):
            keep_largest(result[0], self.fine.one_piece.nonzero()[:, 0].tolist())
        return result.clamp_min_(LEAST).log_()


def fine_overlap(size: Sequence[int], window: Sequence[int]) -> float:
    """Return the share of a fine window that the next one covers again, in a region of a size, voxels."""
    return OVERLAP if prod(size) <= MANY * prod(window) else LESS


class CoarseView:
    """How an image on fine voxels is seen on coarse ones, and where a coarse voxel lies in it.

    Args:
        size: of the image, voxels.
        pixdim: of the image, mm.
        coarse_pixdim: mm.
        window: voxels of the coarse network; a smaller image is padded to that by its edge.
    """

    def __init__(
        self, size: Sequence[int], pixdim: Sequence[float], coarse_pixdim: Sequence[float], window: Sequence[int]
    ) -> None:
        self.size = [int(n) for n in size]
        self.ratios = [new / old for new, old in zip(coarse_pixdim, pixdim, strict=True)]
        counts = [count_voxels(n, ratio) for n, ratio in zip(self.size, self.ratios, strict=True)]
        self.coarse_size = whole_size(counts, window)
        self.firsts = [first_voxel(n, m) for n, m in zip(counts, self.coarse_size, strict=True)]
        axes = zip(self.size, self.ratios, counts, self.firsts, self.coarse_size, strict=True)
        self.matrices = [axis_matrix(*axis) for axis in axes]

    def resample(self, maps: Tensor) -> Tensor:
        """Return maps [C, H, W, D] on the coarse voxels."""
        for axis, matrix in enumerate(self.matrices):
            maps = along_axis(maps, matrix, axis + 1)
        return maps.contiguous()

    def to_coarse(self) -> Tensor:
        """Return the affine [4, 4], float64, from the image's voxels to the coarse ones."""
        affine = torch.diag(torch.tensor([*(1 / ratio for ratio in self.ratios), 1.0], dtype=torch.float64))
        affine[:3, 3] = -torch.tensor(self.firsts, dtype=torch.float64)
        return affine

    def to_image(self, box: Sequence[slice], least: Sequence[int]) -> tuple[slice, ...]:
        """Return a box of coarse voxels as one of the image's, of at least a size where there is room."""
        shifts = [first * ratio for first, ratio in zip(self.firsts, self.ratios, strict=True)]
        return scale_box(tuple(box), self.ratios, shifts, self.size, least)


def locate_then_segment(coarse: GridNetwork, fine: BodyNetwork | None = None) -> nn.Module:
    """Return the network of both levels, or the coarse one where it is the only one."""
    return coarse if fine is None else LocateThenSegment(coarse, fine)


def deployed(network: nn.Module) -> nn.Module:
    """Return the network that is kept in a model.pt; see `LocateThenSegment.deployed`."""
    return network.deployed() if isinstance(network, LocateThenSegment) else network
