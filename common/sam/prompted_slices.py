"""A promptable 2D SAM over the slices of a volume: encode each slice once, decode many prompts in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .build import SamModel
from .features.volume import encode_volume


@dataclass(frozen=True)
class SlicePrompts:
    """P prompts, each of one slice; positions in voxels of the slice as in `imaging.prompts` (voxel i is [i, i + 1]).

    slices: [P] int64, which of the embedded slices a prompt is of.
    boxes: [P, 4] first row, first column, last row, last column.
    points: [P, M, 2] rows and columns, with labels [P, M]: 1 inside, 0 outside, -1 fills up where a prompt has fewer.
    masks: [P, H, W] logits on the slice's grid.
    tokens: [P, T, C], prompts that are embedded already; beside a mask alone they need no position.
    """

    slices: Tensor
    boxes: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None
    masks: Tensor | None = None
    tokens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.slices)

    def part(self, index: slice) -> SlicePrompts:
        """Return some of the prompts."""
        parts = {name: value if value is None else value[index] for name, value in vars(self).items()}
        return replace(self, **parts)


class PromptedSlices:
    """A frozen SAM that answers prompts on slices of a volume with probabilities on the slice's own grid.

    Args:
        sam: a `SamModel`.
        slice_axis: -1 (D), -2 (W) or -3 (H) of the volume.
        batch_size: prompts decoded at once.
        amp: bfloat16 autocast of encoder and decoder; None follows `bf16_supported`. Positions stay in float32.
    """

    def __init__(self, sam: SamModel, slice_axis: int = -1, batch_size: int = 8, amp: bool | None = None) -> None:
        if slice_axis not in (-1, -2, -3):
            raise InputError(f"slice_axis: found {slice_axis}, wanted -1, -2 or -3")
        self.sam, self.slice_axis, self.batch_size, self.amp = sam, slice_axis, batch_size, amp

    @property
    def device(self) -> torch.device:
        return next(self.sam.parameters()).device

    @torch.no_grad()
    def encode(self, image: Tensor, slices: Sequence[int] | None = None) -> Tensor:
        """Return the embeddings [n, C, s, s] float32 of the slices of a volume [1, 1, H, W, D] in [0, 1].

        Args:
            slices: indices of the wanted slices; None for all.
        """
        feature = encode_volume(
            self.sam, image.to(self.device), self.slice_axis, slices=slices, amp=self.amp, keep_padding=True
        )
        return feature[0].movedim(self.slice_axis, 0)

    @torch.no_grad()
    def decode(self, embedding: Tensor, prompts: SlicePrompts, spatial_size: Sequence[int]) -> Tensor:
        """Return the probabilities [P, H, W] float32 that a prompt's structure covers each voxel of its slice.

        Args:
            embedding: [n, C, s, s] of `encode`; `prompts.slices` indexes it.
            spatial_size: H and W of the slices.

        Raises:
            InputError: prompts without any position or mask, or points without labels.
        """
        if prompts.boxes is None and prompts.points is None and prompts.masks is None:
            raise InputError("prompts: found neither boxes nor points nor masks, wanted one of them at least")
        if (prompts.points is None) != (prompts.labels is None):
            raise InputError("prompts: found points or labels alone, wanted both")
        size = (int(spatial_size[0]), int(spatial_size[1]))
        starts = range(0, len(prompts), self.batch_size)
        parts = [prompts.part(slice(start, start + self.batch_size)) for start in starts]
        answers = [self.answer(embedding, part, size) for part in parts]
        return torch.cat(answers) if answers else embedding.new_zeros((0, *size))

    def answer(self, embedding: Tensor, prompts: SlicePrompts, size: tuple[int, int]) -> Tensor:
        """Return the same at once, with the gradient of what the prompts were made from."""
        points = None
        if prompts.points is not None:
            points = (self.to_pixels(prompts.points, size), prompts.labels.to(self.device).float())
        boxes = None if prompts.boxes is None else self.to_pixels(prompts.boxes.unflatten(-1, (2, 2)), size).flatten(-2)
        masks = None if prompts.masks is None else self._to_mask_input(prompts.masks.to(self.device).float())
        own = embedding[prompts.slices.to(embedding.device)].to(self.device)
        tokens = None if prompts.tokens is None else prompts.tokens.to(self.device)
        logits = self.sam.decode(own, points, boxes, masks, self.amp, tokens)
        return self._to_slice(logits, size)[:, 0]

    def to_pixels(self, positions: Tensor, size: tuple[int, int]) -> Tensor:
        """Turn (row, column) [..., 2] of a slice of `size` into the encoder's (x, y), whose pixel i is centred at i."""
        rows, columns = self.sam.preprocessing.resized_size(*size)
        positions = positions.to(self.device, torch.float32)
        # SAM's prompt encoder adds half a pixel
        return (positions * positions.new_tensor([rows / size[0], columns / size[1]])).flip(-1) - 0.5

    def _to_mask_input(self, masks: Tensor) -> Tensor:
        """Logits [P, H, W] to the prompt encoder's grid [P, 1, m, m], the padding as surely outside as anything is."""
        side = self.sam.preprocessing.image_size
        rows, columns = self.sam.preprocessing.resized_size(*masks.shape[-2:])
        lowest = masks.amin((1, 2)).view(-1, 1, 1, 1)  # of each prompt, whatever else is in the batch
        resized = _resize(masks[:, None], (rows, columns)) - lowest
        padded = F.pad(resized, (0, side - columns, 0, side - rows)) + lowest
        return _resize(padded, self.sam.prompt_encoder.mask_input_size)

    def _to_slice(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Low-resolution logits [P, 1, m, m] of the padded square to probabilities [P, 1, H, W] of the slice."""
        side = self.sam.preprocessing.image_size
        rows, columns = self.sam.preprocessing.resized_size(*size)
        probabilities = _resize(logits, (side, side))[..., :rows, :columns].sigmoid()
        return _resize(probabilities, size)  # after the sigmoid: the mean over a voxel is the share that is covered


def _resize(images: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False, antialias=True)
