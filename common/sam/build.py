"""The SAM family by name: `build_sam("mobile_sam")` and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..files.tensor_files import load_strictly, read_tensors
from ..precision import bf16_autocast
from .members.efficient_sam import EfficientViT
from .members.efficient_sam_decoder import EfficientMaskDecoder, EfficientPromptEncoder
from .members.position_tables import resize_position_tables
from .members.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from .members.samus import IMAGE_SIZE as SAMUS_SIZE
from .members.samus import SamusEncoder, samus_tensors
from .members.segment_anything_import import load_segment_anything
from .members.tiny_vit import TinyViT
from .weights.known import find_weights

EMBEDDING_CHANNELS = 256


class SamModel(nn.Module):
    """A frozen SAM: `image_encoder`, `prompt_encoder` and `mask_decoder` under the names of the published checkpoints.

    Parameters need no gradient until the owner asks for it, and the model stays in eval mode whatever `train()` of the
    module that holds it says: the BatchNorm statistics of TinyViT belong to the weights, and nothing here has dropout.

    image_encoder: [B, 3, S, S] preprocessed -> [B, 256, S / stride, S / stride]; its submodule `neck` takes the
        features before the last two convolutions.
    prompt_encoder, mask_decoder: the classes of the `segment_anything` package, built for S and S / stride.
    preprocessing: what turns grey slices in [0, 1] into the encoder's input; `preprocessing.image_size` is S.
    """

    def __init__(self, name: str, preprocessing: Preprocessing, stride: int, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.name = name
        self.preprocessing = preprocessing
        self.stride = stride
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
    ) -> Tensor:
        """Answer P prompts with low-resolution logits [P, 1, m, m] float32 of the single-mask token.

        Args:
            embedding: [P, C, h, w], for each prompt that of its image.
            points: positions [P, M, 2] (x, y) in encoder pixels, pixel i centred at i, and labels [P, M].
            boxes: [P, 4] x0, y0, x1, y1 in encoder pixels.
            masks: logits [P, 1, m, m].
            amp: bfloat16 autocast of the decoder; None follows `bf16_supported`.
        """
        # bfloat16 would move positions by pixels
        sparse, dense = self.prompt_encoder(points, boxes, masks)
        position = self.prompt_encoder.get_dense_pe()
        with bf16_autocast(embedding.device, amp):
            # the decoder repeats one image for all prompts; the images of several come in by the sum it makes first
            none = torch.zeros_like(embedding[:1])
            logits, _ = self.mask_decoder(none, position, sparse, embedding + dense, multimask_output=False)
        return logits.float()


def _sam_prompt_parts(image_size: int, tokens: int) -> dict[str, nn.Module]:
    modeling = load_segment_anything()
    prompt_encoder = modeling.PromptEncoder(EMBEDDING_CHANNELS, (tokens, tokens), (image_size, image_size), 16)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=2048, num_heads=8)
    mask_decoder = modeling.MaskDecoder(transformer_dim=EMBEDDING_CHANNELS, transformer=transformer)
    return {"prompt_encoder": prompt_encoder, "mask_decoder": mask_decoder}


def _efficient_prompt_parts(image_size: int, tokens: int) -> dict[str, nn.Module]:
    prompt_encoder = EfficientPromptEncoder(EMBEDDING_CHANNELS, tokens, image_size)
    return {"prompt_encoder": prompt_encoder, "mask_decoder": EfficientMaskDecoder(EMBEDDING_CHANNELS)}


@dataclass(frozen=True)
class FamilyMember:
    """How to build one member: its image encoder for an image size, its published preprocessing, its stride.

    takes_points: False where the weights answer points with empty masks, because they were trained with boxes only.
    prompt_parts: image size and tokens a side -> `prompt_encoder` and `mask_decoder`.
    adapt: what a checkpoint says, and the model that it is for -> what is loaded strictly.
    any_size: False where the image size is part of the architecture.
    """

    image_encoder: Callable[[int], nn.Module]
    preprocessing: Preprocessing
    stride: int = 16
    takes_points: bool = True
    prompt_parts: Callable[[int, int], dict[str, nn.Module]] = _sam_prompt_parts
    adapt: Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]] = resize_position_tables
    any_size: bool = True


def _tiny_vit(image_size: int, **options: int) -> nn.Module:
    return TinyViT(**options)


def _vit(image_size: int, channels: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> nn.Module:
    return load_segment_anything().ImageEncoderViT(
        img_size=image_size,
        embed_dim=channels,
        depth=depth,
        num_heads=heads,
        global_attn_indexes=global_blocks,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        out_chans=EMBEDDING_CHANNELS,
        use_rel_pos=True,
        window_size=14,
    )


def _samus(image_size: int) -> nn.Module:
    # what SAM's checkpoint doesn't say must be equal in all runs: features are cached under the checkpoint's sha256
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return SamusEncoder()


def _efficient_sam(channels: int, heads: int) -> FamilyMember:
    return FamilyMember(
        lambda image_size: EfficientViT(channels, heads),
        Preprocessing(1024, mean=IMAGENET_MEAN, std=IMAGENET_STD, keep_aspect=False),
        prompt_parts=_efficient_prompt_parts,
        adapt=lambda tensors, model: tensors,
    )


_SAM = Preprocessing(1024, mean=IMAGENET_MEAN, std=IMAGENET_STD)
_VIT_B = partial(_vit, channels=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))
_VIT_L = partial(_vit, channels=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))
_VIT_H = partial(_vit, channels=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))

FAMILY: dict[str, FamilyMember] = {
    "mobile_sam": FamilyMember(partial(_tiny_vit, num_classes=1000), _SAM),
    "lite_medsam": FamilyMember(
        partial(_tiny_vit, patch_kernel=1, patch_stride=1),
        Preprocessing(256, min_max=True),
        stride=4,
        takes_points=False,
    ),
    "sam_vit_b": FamilyMember(_VIT_B, _SAM),
    "sam_vit_l": FamilyMember(_VIT_L, _SAM),
    "sam_vit_h": FamilyMember(_VIT_H, _SAM),
    "medsam_vit_b": FamilyMember(_VIT_B, Preprocessing(1024, min_max=True, keep_aspect=False), takes_points=False),
    "samus": FamilyMember(
        _samus,
        Preprocessing(SAMUS_SIZE, keep_aspect=False),
        stride=8,
        adapt=samus_tensors,
        any_size=False,
    ),
    "efficient_sam_ti": _efficient_sam(192, 3),
    "efficient_sam_s": _efficient_sam(384, 6),
}


def build_sam(
    name: str, checkpoint: str | Path | None = None, image_size: int | None = None, pretrained: bool = True
) -> SamModel:
    """Return a SAM family member with its published weights, frozen and in eval mode, on the CPU.

    Args:
        name: a key of `FAMILY`.
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
    if name not in FAMILY:
        raise InputError(f"sam: found {name!r}, wanted one of {', '.join(FAMILY)}")
    member = FAMILY[name]
    size = member.preprocessing.image_size if image_size is None else image_size
    if not isinstance(size, int) or size <= 0 or size % member.stride:
        raise InputError(f"{name}: image_size is {size!r}, wanted a positive multiple of {member.stride}")
    if not member.any_size and size != member.preprocessing.image_size:
        raise InputError(f"{name}: image_size is {size}, wanted {member.preprocessing.image_size}, its only one")
    # found before the network is built, so that a missing file is said at once
    path = find_weights(name, checkpoint) if pretrained else None
    parts = {"image_encoder": member.image_encoder(size), **member.prompt_parts(size, size // member.stride)}
    model = SamModel(name, replace(member.preprocessing, image_size=size), member.stride, parts)
    if path is not None:
        load_strictly(model, member.adapt(read_tensors(path), model), path)
    return model
