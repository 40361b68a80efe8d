"""SAM-Med3D (or a relative of its shape) as a generalist: one cube of a volume, asked by clicks or by a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import InputError
from ..common.imaging.prompts import FOREGROUND
from ..common.launch.words import optional_number
from ..common.sam.med3d.build import SamMed3D, build_sam_med3d, normalise
from ..common.sam.weights.known import file_sha256, find_weights
from .click_loop import click_loop, mask_answer, single_clicks
from .consultation import Answer, Generalist

PROMPTS = ("clicks", "points", "mask")


@dataclass(frozen=True)
class CubeWindow:
    """A volume's grid and the cube at its centre that a generalist sees: resampled, then cropped or padded.

    spatial_size: H, W, D of the volume; resampled: the same in the generalist's spacing; side: voxels of the cube.
    """

    spatial_size: tuple[int, ...]
    resampled: tuple[int, ...]
    side: int

    def to_cube(self, maps: Tensor) -> Tensor:
        """Maps [C, H, W, D] to [C, side, side, side], zero beyond the volume."""
        maps = _resample(maps, self.resampled)
        before = [(self.side - length) // 2 for length in self.resampled]
        pads = [(b, self.side - length - b) for b, length in zip(before, self.resampled, strict=True)]
        # F.pad takes the last axis first, and crops where a number is negative
        return F.pad(maps, [number for pair in reversed(pads) for number in pair])

    def to_volume(self, maps: Tensor, beyond: Tensor) -> Tensor:
        """Maps [C, side, side, side] back to [C, H, W, D]; what the cube doesn't see is taken from `beyond`.

        Args:
            beyond: maps [C, H, W, D].
        """
        before = [(self.side - length) // 2 for length in self.resampled]
        canvas = _resample(beyond, self.resampled).clone()
        inner, outer = [], []
        for b, length in zip(before, self.resampled, strict=True):
            inner.append(slice(max(b, 0), max(b, 0) + min(length, self.side)))
            outer.append(slice(max(-b, 0), max(-b, 0) + min(length, self.side)))
        canvas[(slice(None), *outer)] = maps[(slice(None), *inner)].to(canvas)
        return _resample(canvas, self.spatial_size)


class VolumeGeneralist(Generalist):
    """Ask a SAM-Med3D about the cube of 128^3 voxels at the centre of a volume.

    Args:
        sam: name of a SAM-Med3D, or a `SamMed3D`.
        prompt: "clicks" (the interaction of SemiSAM+, of which the last mask counts), "points" (independent first
            clicks, of which the mean counts) or "mask" (one mask, no disagreement of its own).
        clicks: K of the interaction, or how many independent ones.
        keep_last: only so many last masks are members; None keeps all (spec O8).
        confidence: of the first click, see `click_loop`.
        spacing: mm to which the volume is resampled first; SAM-Med3D was trained at 1.5. None takes it as it is, as
            SemiSAM+ did.
        pixdim: spacing of the volumes, mm; wanted where `spacing` is given.
        min_voxels: a class of fewer is not asked about.
        checkpoint: of `build_sam_med3d`, where `sam` is a name.
        amp: bfloat16 autocast of the encoder.

    Raises:
        InputError: unknown prompt, spacing without pixdim, unknown sam, or weights missing or not matching.
    """

    def __init__(
        self,
        sam: str | SamMed3D,
        prompt: str = "clicks",
        clicks: int = 10,
        keep_last: int | None = None,
        confidence: float | None = None,
        spacing: float | None = None,
        pixdim: Sequence[float] | None = None,
        min_voxels: int = 16,
        checkpoint: str | Path | None = None,
        amp: bool | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        spacing = optional_number("generalist_spacing", spacing)
        problems = []
        if prompt not in PROMPTS:
            problems.append(f"prompt: found {prompt!r}, wanted one of {', '.join(PROMPTS)}")
        if clicks < 1 or (keep_last is not None and keep_last < 1):
            problems.append(f"clicks, keep_last: found {clicks}, {keep_last}, wanted at least 1")
        if spacing is not None and (pixdim is None or len(pixdim) != 3):
            problems.append(f"pixdim: found {pixdim}, wanted the volume's spacing (3 numbers, mm) beside `spacing`")
        if problems:
            raise InputError(problems)
        self.sha256 = "given"
        if not isinstance(sam, str):
            model = sam
        else:
            model = build_sam_med3d(sam, checkpoint)
            self.sha256 = file_sha256(find_weights(sam, checkpoint))
        self.sam = model.to(device)
        self.prompt, self.clicks, self.keep_last, self.confidence = prompt, clicks, keep_last, confidence
        self.scale = [1.0] * 3 if spacing is None else [float(p) / spacing for p in pixdim]
        self.min_voxels, self.amp, self.seed = min_voxels, amp, seed

    @property
    def identity(self) -> dict[str, Any]:
        """Keywords of `FeatureCache`."""
        return {
            "sam_name": self.sam.name,
            "checkpoint_sha256": self.sha256,
            **{"scale": self.scale, "side": self.sam.image_size, "amp": self.amp},
        }

    def window(self, spatial_size: Sequence[int]) -> CubeWindow:
        """Return how a volume of this size and the cube lie."""
        resampled = [max(1, round(n * scale)) for n, scale in zip(spatial_size, self.scale, strict=True)]
        return CubeWindow(tuple(int(n) for n in spatial_size), tuple(resampled), self.sam.image_size)

    @torch.no_grad()
    def embed(self, image: Tensor) -> Tensor:
        """Encode [1, 1, H, W, D] in [0, 1] -> [1, C, s, s, s] float32."""
        image = image.as_subclass(Tensor).float().to(next(self.sam.parameters()).device)
        cube = self.window(image.shape[2:]).to_cube(image[0])
        return self.sam.encode(normalise(cube[None]), amp=self.amp)

    @torch.no_grad()
    def answer(self, embedding: Tensor, probabilities: Tensor) -> Answer:
        """Answer prompts made from the specialist's probabilities [K, H, W, D]."""
        own = probabilities[1:].as_subclass(Tensor).detach().float()
        window = self.window(own.shape[1:])
        device = next(self.sam.parameters()).device
        cube = window.to_cube(own).to(device)
        asked = (own > FOREGROUND).flatten(1).sum(1) >= max(self.min_voxels, 1)
        asked &= (cube > FOREGROUND).flatten(1).any(1).to(asked.device)
        if self.prompt == "mask":
            count = 1
        else:
            count = self.clicks if self.keep_last is None else min(self.keep_last, self.clicks)
        members = own.new_zeros((count, *own.shape))
        index = asked.nonzero()[:, 0]
        if len(index):
            masks = self._ask(embedding.to(device), cube[index.to(device)], index.tolist())[-count:].to(own)
            for member, mask in zip(members, masks, strict=True):
                member[index] = window.to_volume(mask, own[index])
        return Answer(members, asked, improving=self.prompt == "clicks")

    def _ask(self, embedding: Tensor, targets: Tensor, classes: Sequence[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(self.seed + index) for index in classes]
        if self.prompt == "mask":
            return mask_answer(self.sam, embedding, targets)
        if self.prompt == "points":
            return single_clicks(self.sam, embedding, targets, self.clicks, generators)
        return click_loop(self.sam, embedding, targets, self.clicks, generators, self.confidence)


def _resample(maps: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    finer = all(new >= old for new, old in zip(size, maps.shape[1:], strict=True))
    if finer:
        return F.interpolate(maps[None], tuple(size), mode="trilinear", align_corners=False)[0]
    # onto a coarser grid the mean over what a new voxel covers, else thin structures fall between its samples
    steps = [max(1, round(old / new)) for new, old in zip(size, maps.shape[1:], strict=True)]
    smoothed = F.avg_pool3d(F.pad(maps[None], _half(steps), mode="replicate"), steps, stride=1)
    return F.interpolate(smoothed, tuple(size), mode="trilinear", align_corners=False)[0]


def _half(steps: Sequence[int]) -> list[int]:
    return [number for step in reversed(steps) for number in ((step - 1) // 2, step // 2)]
