"""Pseudo labels: fusing opinions on a case, judging them without truth, sharpening them by intensity, keeping them."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import torch
from monai.transforms import MapTransform
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from .atomic_write import write_atomic
from .preprocessing import gaussian_smooth


def fuse(opinions: Sequence[Tensor]) -> Tensor:
    """Return the mean of probabilities [K, H, W, D] of the same case."""
    return torch.stack([o.float() for o in opinions]).mean(0)


def agreement(first: Tensor, second: Tensor) -> float:
    """Return the Dice of two hard label maps' foreground, mean over classes that either has; inputs are [K, H, W, D].

    Without truth this is what says best how good a pseudo label is.
    """
    a, b = first.argmax(0), second.argmax(0)
    scores = []
    for k in range(1, first.shape[0]):
        total = int((a == k).sum() + (b == k).sum())
        if total:
            scores.append(2 * int(((a == k) & (b == k)).sum()) / total)
    return sum(scores) / len(scores) if scores else 0.0


def select_by_quality(quality: Mapping[str, float], keep: float) -> list[str]:
    """Return the share `keep` (0 to 1) of the cases with the highest quality, at least one."""
    ranked = sorted(quality, key=lambda case: (-quality[case], case))
    return ranked[: max(1, round(keep * len(ranked)))]


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
        image: [1, H, W, D] in [0, 1].
        probabilities: [K, H, W, D].
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
    index = (image[0].float().clamp(0, 1) * (bins - 1)).round().long()
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
    return torch.softmax(updated, dim=0)


def dilate(mask: Tensor, voxels: int) -> Tensor:
    """Grow a boolean mask [H, W, D] by a number of voxels (cube)."""
    grown = mask[None, None].float()
    for axis in range(3):  # axis by axis, which costs a hundredth of the cube
        size = [2 * voxels + 1 if a == axis else 1 for a in range(3)]
        grown = F.max_pool3d(grown, size, stride=1, padding=[s // 2 for s in size])
    return grown[0, 0] > 0.5


def erode(mask: Tensor, voxels: int) -> Tensor:
    """Shrink a boolean mask [H, W, D] by a number of voxels (cube)."""
    return ~dilate(~mask, voxels)


class RefineIntensityd(MapTransform):
    """`refine_by_intensity` as a dictionary transform, for predictions (probabilities) before they are inverted.

    Args:
        keys: probabilities [K, H, W, D].
        image_key: image [1, H, W, D] on the same grid.
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


def plain(tensor: Tensor) -> Tensor:
    """Return a MetaTensor's values as a plain tensor."""
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor


class PseudoLabelBank:
    """Soft labels of cases in a folder, one safetensors file (fp16) a case, each with how it is judged.

    Args:
        folder: made when the first label is saved; every file is written atomically.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, case: str) -> Path:
        return self.folder / f"{case}.safetensors"

    def __contains__(self, case: str) -> bool:
        return self.path(case).exists()

    def save(self, case: str, tensors: Mapping[str, Tensor], **judgement: float) -> None:
        """Keep tensors of a case (for a pseudo label: `label` [K, H, W, D]) and numbers that judge it."""
        content = {name: plain(t).detach().to("cpu").contiguous() for name, t in tensors.items()}
        write_atomic(self.path(case), save(content, metadata={"judgement": json.dumps(judgement)}))

    def load(self, case: str) -> dict[str, Tensor]:
        """Return the tensors of a case, float32."""
        with safe_open(self.path(case), framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}

    def judgement(self, case: str) -> dict[str, float]:
        """Return the numbers that were saved with a case."""
        with safe_open(self.path(case), framework="pt") as file:
            return json.loads(file.metadata()["judgement"])
