"""A SAM of a few thousand random weights: the classes and interfaces of the family at a size that tests can train."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.sam.build import SamModel
from common.sam.members.neck import make_neck
from common.sam.members.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from common.sam.members.segment_anything_import import load_segment_anything
from support.bundle.path import import_bundle


class TinyEncoder(nn.Module):
    """[B, 3, S, S] preprocessed -> [B, channels, S / stride, S / stride] by convolutions."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        while stride > 1:
            layers += [nn.Conv2d(width, channels, 3, stride=2, padding=1), nn.GELU()]
            width, stride = channels, stride // 2
        self.body = nn.Sequential(*layers)
        self.neck = make_neck(width, channels)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.neck(self.features(x))


def tiny_sam(
    image_size: int = 64, stride: int = 8, channels: int = 32, seed: int = 0, attention: bool = False
) -> SamModel:
    """Return a frozen `SamModel` with the prompt encoder and mask decoder of `segment_anything` in a small size.

    Args:
        image_size: side of the encoder's input, a multiple of the stride. Slices that are not square are padded as SAM
            pads them.
        stride: a power of two; the decoder answers on 4 * image_size / stride pixels a side.
        channels: of the embedding, a multiple of 16.
        seed: of the weights; the global random state stays as it is.
        attention: take a ViT of two blocks (fused qkv) in place of the convolutions, for low-rank adapters.
    """
    modeling = load_segment_anything()
    tokens = image_size // stride
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder: nn.Module = TinyEncoder(stride, channels)
        if attention:
            encoder = modeling.ImageEncoderViT(
                img_size=image_size,
                patch_size=stride,
                embed_dim=channels,
                depth=2,
                num_heads=4,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                out_chans=channels,
                use_rel_pos=True,
                window_size=3,
                global_attn_indexes=(1,),
            )
            nn.init.normal_(encoder.pos_embed, std=0.02)
        parts = {
            "image_encoder": encoder,
            "prompt_encoder": modeling.PromptEncoder(channels, (tokens, tokens), (image_size, image_size), 16),
            "mask_decoder": modeling.MaskDecoder(
                transformer_dim=channels,
                transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=64, num_heads=4),
                iou_head_depth=2,
                iou_head_hidden_dim=channels,
            ),
        }
    preprocessing = Preprocessing(image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return SamModel("tiny_sam", preprocessing, stride, parts)


def use_tiny_sam(patch: Any, folder: Path, attention: bool = False, bundle: str = "ada_sam") -> list[SamModel]:
    """Let a bundle build tiny SAMs of whatever name, whose weights are said to be a file in `folder`.

    Returns those that were built, in their order.
    """
    weights = folder / "tiny_sam.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(b"tiny")
    built: list[SamModel] = []

    def build(name: str, checkpoint: str | None = None, image_size: int | None = None, pretrained: bool = True) -> Any:
        # random weights in place of the published ones are other weights
        built.append(tiny_sam(image_size or 64, attention=attention, seed=0 if pretrained else 1))
        return built[-1]

    patch.setattr(import_bundle(bundle, "common.sam.build"), "build_sam", build)
    for module in ("features.slice_features", "weights.known"):
        found = import_bundle(bundle, f"common.sam.{module}")
        patch.setattr(found, "find_weights", lambda name, checkpoint=None: weights)
    return built
