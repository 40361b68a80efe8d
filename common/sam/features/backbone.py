"""A 2D SAM as the backbone of slice-wise methods: features to classify, an embedding, and answers to prompt grids."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..build import SamModel, build_sam
from ..members.preprocessing import Preprocessing


class SliceBackbone(nn.Module):
    """A SAM family member that turns slices into features and answers many prompts per slice.

    Frozen and in eval mode until `tune(True)`. In eval mode it also stays then: the BatchNorm statistics of TinyViT
    belong to the weights, and no member has dropout.

    name: key of `FAMILY`. image_size: side S of the encoder's input, pixels. preprocessing: grey slices to that input.
    feature_channels: channels D of `features`. takes_points: False where the weights understand boxes only.

    Args:
        sam: the member; its image encoder has a submodule `neck`.
        batch_size: prompts decoded at once.
        amp: bfloat16 autocast of the mask decoder; None follows `bf16_supported`, False gives the published outputs.
    """

    def __init__(self, sam: SamModel, batch_size: int = 16, amp: bool | None = None) -> None:
        super().__init__()
        self.sam = sam
        self.batch_size, self.amp = batch_size, amp
        self.feature_channels: int = sam.image_encoder.neck[0].in_channels

    @property
    def name(self) -> str:
        return self.sam.name

    @property
    def takes_points(self) -> bool:
        return self.sam.prompts.points

    @property
    def preprocessing(self) -> Preprocessing:
        return self.sam.preprocessing

    @property
    def image_size(self) -> int:
        return self.sam.preprocessing.image_size

    @property
    def image_encoder(self) -> nn.Module:
        """Preprocessed slices [N, 3, S, S] -> embedding [N, C, h, w], for `encode_volume`."""
        return self.sam.image_encoder

    def features(self, x: Tensor) -> Tensor:
        """Turn preprocessed slices [N, 3, S, S] into the features before the neck [N, D, h, w]."""
        encoder = self.sam.image_encoder
        if hasattr(encoder, "features"):
            return encoder.features(x)
        # segment_anything's ViT keeps its channels last
        x = encoder.patch_embed(x) + encoder.pos_embed
        for block in encoder.blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2)

    def embed(self, features: Tensor) -> Tensor:
        """Turn features [N, D, h, w] of the whole square into the embedding [N, C, h, w] that the decoder takes."""
        return self.sam.image_encoder.neck(features)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn preprocessed slices [N, 3, S, S] into features [N, D, h, w] and embedding [N, C, h, w]."""
        features = self.features(x)
        return features, self.embed(features)

    forward = encode

    def decode_points(self, embedding: Tensor, points: Tensor) -> Tensor:
        """Answer prompts of one positive point each with low-resolution logits [N, P, m, m] float32.

        Args:
            embedding: [N, C, h, w] of whole squares, encoded once.
            points: [N, P, 2] (x, y) in encoder pixels, pixel i centred at i.

        Raises:
            InputError: the weights understand boxes only.
        """
        if not self.takes_points:
            raise InputError(f"{self.name}: found points, wanted boxes: its weights answer points with empty masks")
        return self._decode(embedding, points, "points")

    def decode_boxes(self, embedding: Tensor, boxes: Tensor) -> Tensor:
        """Answer prompts of one box each with low-resolution logits [N, P, m, m] float32.

        Args:
            embedding: [N, C, h, w] of whole squares, encoded once.
            boxes: [N, P, 4] x0, y0, x1, y1 in encoder pixels, pixel i centred at i.
        """
        return self._decode(embedding, boxes, "boxes")

    def _decode(self, embedding: Tensor, prompts: Tensor, kind: str) -> Tensor:
        width = {"points": 2, "boxes": 4}[kind]
        images, count = embedding.shape[0], prompts.shape[1] if prompts.ndim == 3 else 0
        if not count or prompts.shape != (images, count, width):
            found = f"{tuple(prompts.shape)} for {images} embeddings"
            raise InputError(f"{self.name}: found {kind} of {found}, wanted [{images}, P, {width}]")
        flat = prompts.to(embedding.device, torch.float32).flatten(0, 1)
        owner = torch.arange(images, device=embedding.device).repeat_interleave(count)
        parts = []
        for some, own in zip(flat.split(self.batch_size), owner.split(self.batch_size), strict=True):
            if kind == "points":
                asked = {"points": (some[:, None], some.new_ones(len(some), 1))}
            else:
                asked = {"boxes": some}
            parts.append(self.sam.decode(embedding[own], **asked, amp=self.amp))
        return torch.cat(parts)[:, 0].unflatten(0, (images, count))

    def trainable_parameters(self) -> list[str]:
        """Return the names of the parameters that `tune` frees.

        SAMUS: its CNN branch, adapters and global position tables, and the whole of the blocks 8 to 11 (WeakMedSAM's
        released code: 68,019,200 parameters with the heads of one class and eight sub-classes). Others by analogy: the
        last third of the blocks of a ViT (8 to 11 of 12), the last stage of TinyViT.
        """
        tuned, encoder = re.compile(self.sam.tuned), "sam.image_encoder."
        names = [name for name, _ in self.named_parameters() if name.startswith(encoder)]
        return [name for name in names if tuned.match(name, len(encoder))]

    def tune(self, mode: bool = True) -> SliceBackbone:
        """Let gradients reach `trainable_parameters()`, or with False none; the rest is always frozen."""
        wanted = set(self.trainable_parameters()) if mode else set()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in wanted)
        return self


def build_backbone(
    name: str,
    checkpoint: str | Path | None = None,
    image_size: int | None = None,
    pretrained: bool = True,
    batch_size: int = 16,
    amp: bool | None = None,
) -> SliceBackbone:
    """Return a `SliceBackbone`; name, checkpoint, image_size and pretrained as in `build_sam`, which it calls."""
    return SliceBackbone(build_sam(name, checkpoint, image_size, pretrained), batch_size, amp).eval()
