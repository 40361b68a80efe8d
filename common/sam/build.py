"""The SAM family by name: `build_sam("mobile_sam")` and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..files.tensor_files import load_strictly, read_tensors
from ..launch.words import optional
from ..precision import bf16_autocast
from .members.family import find_member
from .members.preprocessing import Preprocessing
from .members.record import ALL_PROMPTS, Prompts, SliceMember
from .weights.known import find_weights


class SamModel(nn.Module):
    """A frozen SAM: `image_encoder`, `prompt_encoder` and `mask_decoder` under the names of the published checkpoints.

    Parameters need no gradient until the owner asks for it, and the model stays in eval mode whatever `train()` of the
    module that holds it says: the BatchNorm statistics of TinyViT belong to the weights, and nothing here has dropout.

    image_encoder: [B, 3, S, S] preprocessed -> [B, 256, S / stride, S / stride]; its submodule `neck` takes the
        features before the last two convolutions.
    prompt_encoder, mask_decoder: the classes of the `segment_anything` package, built for S and S / stride.
    preprocessing: what turns grey slices in [0, 1] into the encoder's input; `preprocessing.image_size` is S.
    prompts, tuned: see `SliceMember`.
    """

    def __init__(
        self,
        name: str,
        preprocessing: Preprocessing,
        stride: int,
        parts: Mapping[str, nn.Module],
        prompts: Prompts = ALL_PROMPTS,
        tuned: str = "(?!)",  # nothing
    ) -> None:
        super().__init__()
        self.name = name
        self.preprocessing = preprocessing
        self.stride = stride
        self.prompts, self.tuned = prompts, tuned
        self.image_encoder = parts["image_encoder"]
        self.prompt_encoder = parts["prompt_encoder"]
        self.mask_decoder = parts["mask_decoder"]
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> SamModel:
        """Stay in eval mode."""
        return super().train(False)

    def decode(
        self,
        embedding: Tensor,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        amp: bool | None = None,
        tokens: Tensor | None = None,
        dense: Tensor | None = None,
    ) -> Tensor:
        """Answer P prompts with low-resolution logits [P, 1, m, m] float32 of the single-mask token.

        Args:
            embedding: [P, C, h, w], for each prompt that of its image.
            points: positions [P, M, 2] (x, y) in encoder pixels, pixel i centred at i, and labels [P, M].
            boxes: [P, 4] x0, y0, x1, y1 in encoder pixels.
            masks: logits [P, 1, m, m].
            amp: bfloat16 autocast of the decoder; None follows `bf16_supported`.
            tokens: [P, T, C], embedded prompts beside those of points and boxes.
            dense: [P, C, h, w], in place of what the prompt encoder makes of masks, or of none.
        """
        # bfloat16 would move positions by pixels
        sparse, of_masks = self.prompt_encoder(points, boxes, masks)
        dense = of_masks if dense is None else dense.to(of_masks)
        if tokens is not None:
            sparse = torch.cat([sparse.expand(len(tokens), -1, -1), tokens.to(sparse)], 1)
        position = self.prompt_encoder.get_dense_pe()
        with bf16_autocast(embedding.device, amp):
            # the decoder repeats one image for all prompts; the images of several come in by the sum it makes first
            none = torch.zeros_like(embedding[:1])
            logits, _ = self.mask_decoder(none, position, sparse, embedding + dense, multimask_output=False)
        return logits.float()


def build_sam(
    name: str, checkpoint: str | Path | None = None, image_size: int | None = None, pretrained: bool = True
) -> SamModel:
    """Return a SAM family member with its published weights, frozen and in eval mode, on the CPU.

    Args:
        name: of a member in `FAMILY` that sees slices.
        checkpoint: file of the weights; None looks where `find_weights` looks.
        image_size: side of the encoder's input in pixels, a multiple of the stride; None is the published size. TinyViT
            and EfficientSAM take any; SAM ViT's position tables are interpolated (224 is exactly one window, the
            fastest on a CPU); SAMUS has only its own.
        pretrained: False leaves random weights and reads no file.

    `samus` loads checkpoints of SAMUS and WeakMedSAM, and of SAM ViT-B. The latter leaves SAMUS' own 79 tensors as they
    were made, always the same, and its features are worth nothing before these were trained.

    Raises:
        InputError: unknown name, impossible size, or weights missing, of the wrong sha256, unreadable or not matching.
    """
    member = find_member(name, SliceMember)
    checkpoint, image_size = optional(checkpoint), optional(image_size)
    size = member.preprocessing.image_size if image_size is None else image_size
    if not isinstance(size, int) or size <= 0 or size % member.stride:
        raise InputError(f"{name}: image_size is {size!r}, wanted a positive multiple of {member.stride}")
    if not member.any_size and size != member.preprocessing.image_size:
        raise InputError(f"{name}: image_size is {size}, wanted {member.preprocessing.image_size}, its only one")
    # found before the network is built, so that a missing file is said at once
    path = find_weights(name, checkpoint) if pretrained else None
    parts = {"image_encoder": member.image_encoder(size), **member.prompt_parts(size, size // member.stride)}
    preprocessing = replace(member.preprocessing, image_size=size)
    model = SamModel(name, preprocessing, member.stride, parts, member.prompts, member.tuned)
    if path is not None:
        load_strictly(model, member.from_checkpoint(read_tensors(path), model), path)
    return model
