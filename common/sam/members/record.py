"""What is known of one member of the SAM family: a single record, which everything else reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .preprocessing import Preprocessing


@dataclass(frozen=True)
class Carrier:
    """A package of the index that carries a weight file: the archive, its sha256, and where the file lies in it."""

    requirement: str
    archive_sha256: str
    member: str
    installed: tuple[str, str]  # import name and path inside the installed package


@dataclass(frozen=True)
class Weights:
    """A published weight file. `sha256` and `size` (bytes) are None where nobody of us has seen the file."""

    file_name: str
    licence: str
    origin: str
    sha256: str | None = None
    size: int | None = None
    carrier: Carrier | None = None


@dataclass(frozen=True)
class Prompts:
    """Which prompts beside boxes the weights understand; all 2D members take boxes.

    points: False where the weights were trained with boxes alone. They answer points, and masks without a box, with
        empty masks, and a point beside a box makes the answer worse.
    masks: False where the prompt encoder has no mask prompts.
    box_margin: what suits the weights as room around a structure, as a share of its box's side.
    """

    points: bool = True
    masks: bool = True
    box_margin: float = 0.0

    def __str__(self) -> str:
        if not self.points:
            return "boxes only"
        return "boxes, points and masks" if self.masks else "boxes and points only"

    def understood(self, kind: str) -> str:
        """Return what to ask by in place of a kind of prompt: "box", "point" and "mask", joined by +, or "learned"."""
        if kind == "learned":
            return kind if self.points and self.masks else "box"
        parts = [
            part for part in kind.split("+") if (self.points or part != "point") and (self.masks or part != "mask")
        ]
        alone = "box" in parts or self.points
        return "+".join(parts) if parts and alone else "box"


ALL_PROMPTS = Prompts()


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member of the family. No field of a record has a default, so that none is forgotten."""

    weights: Weights


@dataclass(frozen=True, kw_only=True)
class SliceMember(Member):
    """A member that sees slices, in 2D.

    image_encoder: image size -> the encoder, [B, 3, S, S] preprocessed -> [B, 256, S / stride, S / stride].
    prompt_parts: image size and tokens a side -> `prompt_encoder` and `mask_decoder`.
    preprocessing: as published; its `image_size` is the published side S in pixels.
    any_size: False where the image size is part of the architecture.
    prompts: which ones the weights understand.
    from_checkpoint: what a checkpoint says, and the model that it is for -> what is loaded strictly.
    tuned: pattern of the names, from their beginning, of the encoder's parameters that are freed where it is tuned.
    """

    image_encoder: Callable[[int], nn.Module]
    prompt_parts: Callable[[int, int], dict[str, nn.Module]]
    preprocessing: Preprocessing
    stride: int
    any_size: bool
    prompts: Prompts
    from_checkpoint: Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]]
    tuned: str


@dataclass(frozen=True, kw_only=True)
class VolumeMember(Member):
    """A member that sees volumes: a SAM-Med3D, which takes points and masks, and no boxes.

    image_size: voxels a side of its input.
    """

    image_size: int
