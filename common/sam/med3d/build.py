"""SAM-Med3D, a promptable 3D segmenter, and its relatives of the same shape: `build_sam_med3d("sam_med3d_turbo")`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...files.tensor_files import load_strictly, read_tensors
from ...precision import bf16_autocast
from ..members.family import find_member
from ..members.record import VolumeMember
from ..weights.known import find_weights
from .decoder import MaskDecoder3d
from .encoder import ImageEncoder3d
from .prompt import PromptEncoder3d


class SamMed3D(nn.Module):
    """A frozen SAM-Med3D: `image_encoder`, `prompt_encoder` and `mask_decoder` under the names of its checkpoints.

    Like `SamModel` it stays in eval mode whatever its owner does, and its parameters need no gradient.

    The weights expect a volume of 1.5 mm voxels in RAS, cropped or padded (not resized) to 128^3, then `normalise`d.

    Behaves as the public repository uni-medical/SAM-Med3D (build `vit_b_ori`): tested against outputs that were
    recorded with that code and given weights, not against the public weights.

    image_size: voxels a side of the input; 128 for all published weights.
    mask_size: voxels a side of mask prompts and of the logits; 32.
    """

    def __init__(
        self,
        name: str,
        image_size: int,
        patch_size: int = 16,
        embedding_channels: int = 384,
        mlp_channels: int = 2048,
        **encoder_sizes: Any,
    ) -> None:
        super().__init__()
        grid = image_size // patch_size
        self.name = name
        self.image_size = image_size
        self.mask_size = 4 * grid
        self.image_encoder = ImageEncoder3d(image_size, patch_size, outputs=embedding_channels, **encoder_sizes)
        self.prompt_encoder = PromptEncoder3d(embedding_channels, grid, image_size)
        self.mask_decoder = MaskDecoder3d(embedding_channels, mlp_channels)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> SamMed3D:
        """Stay in eval mode."""
        return super().train(False)

    def encode(self, volume: Tensor, amp: bool | None = None) -> Tensor:
        """Encode normalised volumes [B, 1, 128, 128, 128] -> embedding [B, 384, 8, 8, 8] of the same dtype.

        Args:
            amp: bfloat16 autocast; None follows `bf16_supported`, False gives the recorded outputs.

        Raises:
            InputError: another shape.
        """
        with bf16_autocast(volume.device, amp):
            embedding = self.image_encoder(volume.as_subclass(Tensor))
        return embedding.to(volume.dtype)

    def decode(
        self, embedding: Tensor, points: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Answer B prompts with logits [B, 1, 32, 32, 32], low resolution, of the whole field of view.

        Trilinear upsampling to 128^3 (align_corners False) and a sigmoid give the probability. SAM-Med3D was trained
        to be asked several times: one new click each, and the last logits as the mask.

        Args:
            embedding: of one volume [1, 384, 8, 8, 8] for all prompts, or one for each [B, ...].
            points: coordinates [B, N, 3], voxels in array order, and labels [B, N] (1 foreground, 0 background, -1 no
                point); None for a mask alone.
            mask: logits [B, 1, 32, 32, 32]; None stands for zeros, the first mask of SAM-Med3D's training.

        Raises:
            InputError: no prompt at all, or shapes other than the above.
        """
        self._check_prompts(embedding, points, mask)
        if mask is None:
            mask = embedding.new_zeros(points[0].shape[0], 1, *[self.mask_size] * 3)
        sparse, dense = self.prompt_encoder(points, masks=mask)
        position = self.prompt_encoder.get_dense_pe()
        return self.mask_decoder(embedding, position, sparse, dense)[0]

    def _check_prompts(self, embedding: Tensor, points: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> None:
        if points is None and mask is None:
            raise InputError("SAM-Med3D: found no prompt, wanted points, a mask or both")
        problems, batches = [], set()
        if points is not None:
            coords, labels = points
            batches.add(coords.shape[0])
            if coords.ndim != 3 or coords.shape[-1] != 3 or labels.shape != coords.shape[:2]:
                found = f"{tuple(coords.shape)} and {tuple(labels.shape)}"
                problems.append(f"SAM-Med3D: found points and labels of {found}, wanted [B, N, 3] and [B, N]")
        if mask is not None:
            side = self.mask_size
            batches.add(mask.shape[0])
            if mask.shape[1:] != (1, side, side, side):
                problems.append(f"SAM-Med3D: found a mask {tuple(mask.shape)}, wanted [B, 1, {side}, {side}, {side}]")
        if len(batches) > 1 or embedding.shape[0] not in (1, *batches):
            found = f"{sorted(batches)} prompts on {embedding.shape[0]} embeddings"
            problems.append(f"SAM-Med3D: found {found}, wanted one embedding, or one for each prompt")
        if problems:
            raise InputError(problems)


def build_sam_med3d(name: str, checkpoint: str | Path | None = None, pretrained: bool = True, **sizes: Any) -> SamMed3D:
    """Return a SAM-Med3D with its weights, frozen and in eval mode, on the CPU.

    Args:
        name: of a member in `FAMILY` that sees volumes; they share one architecture.
        checkpoint: file of the weights (bare tensors, or under 'model_state_dict'); None looks where `find_weights`
            looks.
        pretrained: False leaves random weights and reads no file.
        sizes: other sizes of `SamMed3D` and `ImageEncoder3d` than the published ones, for tests.

    Raises:
        InputError: unknown name, or weights missing, unreadable or not matching.
    """
    member = find_member(name, VolumeMember)
    # found before the network is built, so that a missing file is said at once
    path = find_weights(name, checkpoint) if pretrained else None
    tensors = None if path is None else _read(path)
    model = SamMed3D(name, **{"image_size": member.image_size, **sizes})
    if tensors is not None:
        load_strictly(model, tensors, path)
    return model


def normalise(volume: Tensor) -> Tensor:
    """Give each volume [B, 1, H, W, D] mean 0 and standard deviation 1 over its voxels above 0.

    All voxels are shifted and scaled, so padding becomes negative: pad first, then normalise, as SAM-Med3D was trained
    (torchio's ZNormalization). A volume without two different voxels above 0 is only shifted.
    """
    volume = volume.as_subclass(Tensor)
    inside = (volume > 0).to(volume.dtype)
    axes = tuple(range(1, volume.ndim))
    count = inside.sum(axes, keepdim=True)
    mean = (volume * inside).sum(axes, keepdim=True) / count.clamp_min(1)
    variance = ((volume - mean).square() * inside).sum(axes, keepdim=True) / (count - 1).clamp_min(1)
    return (volume - mean) / torch.where(variance > 0, variance, 1).sqrt()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(path)
    except InputError as error:
        if not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        # the authors' training files hold an argparse.Namespace and numpy numbers beside the weights
        target = path.with_name(f"{path.stem}_weights{path.suffix}")
        load = f"torch.load({str(path)!r}, map_location='cpu', weights_only=False)['model_state_dict']"
        how = f'python -c "import torch; torch.save({load}, {str(target)!r})"'
        hint = f"a training file of the authors, if you trust it, is converted once, offline: {how}; then give {target}"
        raise InputError([f"{problem}; {hint}" for problem in error.problems]) from error
