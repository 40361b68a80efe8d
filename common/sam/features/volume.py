"""Slices <-> volume: image features of a whole volume from a 2D encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...precision import bf16_autocast
from ..members.preprocessing import Preprocessing


def encode_volume(
    sam: nn.Module,
    image: Tensor,
    slice_axis: int = -1,
    slices: int | Sequence[int] | None = None,
    batch_size: int = 1,
    amp: bool | None = None,
    preprocessing: Preprocessing | None = None,
    keep_padding: bool = False,
    context: int = 0,
    encoder: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Encode a volume slice by slice and stack the features where the slices lay.

    Each slice is prepared as the authors of the weights published it, encoded, and the part of the features that
    belongs to the zero padding is cut away, so that features and image cover the same field of view: an in-plane voxel
    at the fraction f of the image lies at the fraction f of the features.

    Args:
        sam: a `SamModel`, a `SliceBackbone`, or an image encoder [N, 3, S, S] -> [N, C, s, s] together with
            `preprocessing`.
        image: [B, 1, H, W, D] float in [0, 1].
        slice_axis: the axis along which the volume is cut, -1 (D), -2 (W) or -3 (H), or 4, 3, 2.
        slices: how many evenly spaced slices to encode, or the indices of those wanted; None, or a number of more than
            there are, takes all.
        batch_size: slices encoded at once. More than one does not pay on a CPU.
        amp: bfloat16 autocast; None follows `bf16_supported`.
        keep_padding: return the whole square token grid, as mask decoders need it, instead of the image's part.
        context: 0 repeats the grey slice in the three channels; c > 0 (2.5D) gives the slices z - c, z and z + c, the
            edge repeated.
        encoder: asked instead of `sam.image_encoder`, such as `SliceBackbone.features` for what lies before the neck.

    Returns:
        [B, C, h, w, D'] float32 for slice_axis -1; for another axis D' stands in its place. Gradients flow if the
        encoder asks for them; a frozen SAM builds no graph.

    Raises:
        InputError: image, axis or context of another kind than the above.
    """
    if image.ndim != 5 or image.shape[1] != 1 or not image.is_floating_point():
        found = f"{image.dtype} {tuple(image.shape)}"
        raise InputError(f"encode_volume: found an image of {found}, wanted floating point [B, 1, H, W, D]")
    axis = slice_axis + 5 if slice_axis < 0 else slice_axis
    if axis not in (2, 3, 4):
        raise InputError(f"encode_volume: found slice_axis {slice_axis}, wanted -1, -2 or -3")
    if context < 0:
        raise InputError(f"encode_volume: found context {context}, wanted 0 or more slices")
    preprocessing = preprocessing or getattr(sam, "preprocessing", None)
    if preprocessing is None:
        raise InputError("encode_volume: found an encoder without preprocessing, wanted a SamModel or `preprocessing`")
    encoder = encoder or getattr(sam, "image_encoder", sam)

    image = image.as_subclass(Tensor)  # a MetaTensor would drag its history through every step
    index = wanted_slices(image.shape[axis], slices).to(image.device)
    steps = torch.tensor([-context, 0, context] if context else [0], device=image.device)
    around = (index[:, None] + steps).clamp(0, image.shape[axis] - 1)  # [D', channels]
    planes = image.index_select(axis, around.flatten()).movedim(axis, 1)[:, :, 0]  # [B, D' * channels, rows, columns]
    planes = planes.unflatten(1, around.shape)
    batch, depth = planes.shape[:2]
    planes = planes.flatten(0, 1)
    rows, columns = preprocessing.resized_size(*planes.shape[-2:])
    covered = (rows / preprocessing.image_size, columns / preprocessing.image_size)
    features = []
    for chunk in planes.split(batch_size):
        # statistics of the slice and its resampling stay in float32, only the encoder is in bfloat16
        encoder_input = preprocessing(chunk.float())
        with bf16_autocast(image.device, amp):
            feature = encoder(encoder_input)
        features.append(feature.float() if keep_padding else crop_padding(feature.float(), covered))
    stacked = torch.cat(features)
    # [B * D', C, h, w] -> [B, C, h, w] with D' at the slice axis
    return stacked.unflatten(0, (batch, depth)).movedim(1, axis)


def wanted_slices(depth: int, slices: int | Sequence[int] | None) -> Tensor:
    """Return the indices int64 of the slices: those given, or `spaced_slices`."""
    if slices is None or isinstance(slices, int):
        return spaced_slices(depth, slices)
    outside = [index for index in slices if not 0 <= index < depth]
    if outside or not len(slices):
        raise InputError(f"slices: found {outside or 'none'}, wanted indices from 0 to {depth - 1}")
    return torch.tensor(list(slices))


def spaced_slices(depth: int, count: int | None) -> Tensor:
    """Return the indices [count] int64 of the slices at the centres of `count` equal parts of `depth` slices."""
    if count is None or count >= depth:
        return torch.arange(depth)
    if count < 1:
        raise InputError(f"slices: found {count}, wanted at least 1")
    return ((torch.arange(count) * 2 + 1) * depth).div(2 * count, rounding_mode="floor")


def crop_padding(feature: Tensor, covered: tuple[float, float]) -> Tensor:
    """Keep the part of the features [N, C, h, w] that the image covers: fractions of rows and columns, top left.

    Where the image ends on a token edge this is a plain crop. Where it ends inside a token, the nearest whole number of
    tokens is sampled bilinearly over exactly the covered part; a crop would shift the features by up to half a token.
    """
    height, width = (size * part for size, part in zip(feature.shape[-2:], covered, strict=True))
    rows, columns = max(1, round(height)), max(1, round(width))
    if abs(height - rows) < 1e-6 and abs(width - columns) < 1e-6:
        return feature[..., :rows, :columns]
    (part_y, part_x), batch = covered, feature.shape[0]
    theta = feature.new_tensor([[part_x, 0, part_x - 1], [0, part_y, part_y - 1]]).expand(batch, 2, 3)
    grid = F.affine_grid(theta, [batch, feature.shape[1], rows, columns], align_corners=False)
    return F.grid_sample(feature, grid, mode="bilinear", padding_mode="border", align_corners=False)
