"""Pseudo labels sharpened by what the scan's own intensities say."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional as F

from ..imaging.morphology import dilate, erode, gaussian_smooth
from ..tensors import grey, known_share, plain


def refine_by_intensity(
    image: Tensor,
    probabilities: Tensor,
    weight: float = 1.0,
    outer: int = 3,
    inner: int = 5,
    bins: int = 32,
    sigma: float = 0.7,
) -> Tensor:
    """Move the boundaries of a segmentation to where the scan's own intensities say; needs contrast, no label.

    In a band around the predicted surfaces the histograms of the classes are estimated with the probabilities as
    weights; the log-likelihoods, smoothed in space, are added to the log-probabilities inside that band. One pass.

    Args:
        image: [C, H, W, D] in [0, 1]; of several channels the mean counts.
        probabilities: [K, H, W, D]; where all are 0, as beyond the scan, they stay so.
        weight: of the log-likelihood; 0 returns the input.
        outer, inner: voxels of the band outside and inside the foreground.
        sigma: of the spatial smoothing, voxels.

    Returns:
        probabilities [K, H, W, D].
    """
    k = probabilities.shape[0]
    hard = probabilities.argmax(0)
    foreground = hard > 0
    if weight == 0 or not bool(foreground.any()):
        return probabilities
    near = dilate(foreground, outer) & ~erode(foreground, inner)
    # borders between two structures count as surfaces as well
    for label in range(1, k):
        own = hard == label
        if bool(own.any()) and k > 2:
            near |= dilate(own, 2) & ~erode(own, 2)
    index = (grey(image)[0].float().clamp(0, 1) * (bins - 1)).round().long()
    logs = []
    for label in range(k):
        counts = torch.bincount(index[near], weights=probabilities[label][near].float(), minlength=bins)
        smoothed = F.avg_pool1d(F.pad(counts[None, None], (1, 1), mode="replicate"), 3, stride=1)[0, 0]
        density = smoothed + 1e-3 * counts.sum()
        logs.append(torch.log((density / density.sum().clamp_min(1e-6)).clamp_min(1e-6))[index])
    likelihood = gaussian_smooth(torch.stack(logs).float(), sigma)
    likelihood = likelihood - likelihood.mean(0, keepdim=True)
    updated = torch.log(probabilities.float().clamp_min(1e-6)) + weight * likelihood * near
    # a class does not appear where its own surface is far away
    for label in range(1, k):
        reach = dilate(hard == label, outer)
        updated[label] = torch.where(reach, updated[label], torch.log(probabilities[label].float().clamp_min(1e-6)))
    return torch.softmax(updated, dim=0) * known_share(probabilities, 0)


class RefineIntensityd(MapTransform):
    """`refine_by_intensity` as a dictionary transform, for predictions (probabilities) before they are inverted.

    Args:
        keys: probabilities [K, H, W, D].
        image_key: image [C, H, W, D] on the same grid.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], image_key: str = "image", weight: float = 1.0,
                 allow_missing_keys: bool = False) -> None:  # fmt: skip
        super().__init__(keys, allow_missing_keys)
        self.image_key, self.weight = image_key, weight

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            pred, image = result[key], result[self.image_key]
            refined = refine_by_intensity(plain(image), plain(pred), self.weight)
            result[key] = pred.clone().copy_(refined) if hasattr(pred, "meta") else refined
        return result
