"""Random contrasts of a labelled scan: what the same body might look like under another scanner or modality."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from scipy import ndimage
from torch import Tensor

from ..tensors import plain

SAMPLED = 4000  # voxels of a class that its clusters are found by
ROUNDS = 8  # of Lloyd's algorithm, which in one dimension has settled by then
DARK = 0.05  # intensity up to which a cluster is air, which every modality shows dark
STAYS_DARK = 0.9  # share of the draws in which it does


class RandContrastsd(RandomizableTransform, MapTransform):
    """Give each class of a scan, and the clusters of intensities within it, other intensities, drawn at random.

    Each class has a curve from old to new intensities, linear between the middles of its clusters, whose new values are
    uniform in [0, 1]: as clusters of random means (SynthSeg, Billot et al. 2023; within labels, Zalevskyi et al. 2024),
    but a voxel between two of them stays between, and what texture the scan has is kept, stretched or turned around.
    A further curve of the whole scan is mixed in: tissue without a label of its own looks as its likes do (Zhou et al.
    2019). Where classes are soft the curves are mixed by their shares.

    Args:
        keys: the image, [C, H, W, D] in [0, 1]; each channel has curves of its own.
        label: key of [K, H, W, D] probabilities, or [1, H, W, D] uint8 classes. A voxel whose class isn't known (no
            probability; not below `classes`) counts as the nearest one whose class is: what repeats the edge of a scan
            goes on repeating it.
        classes: of a map of classes, background included; None: as many as probabilities has the label.
        prob: of the change.
        background_clusters, structure_clusters: fewest and most clusters of the background, and of any other class.
        gain: largest slope, up or down, of the texture within a structure of one cluster.
        noise: largest standard deviation of what is added, Gaussian and smoothed at random.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        label: str = "label",
        classes: int | None = None,
        prob: float = 1.0,
        background_clusters: tuple[int, int] = (3, 7),
        structure_clusters: tuple[int, int] = (1, 2),
        gain: float = 1.0,
        noise: float = 0.05,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.label, self.classes, self.gain, self.noise = label, classes, gain, noise
        self.clusters = background_clusters, structure_clusters

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        shares = class_shares(plain(result[self.label]), self.classes)
        for key in self.key_iterator(result):
            image = plain(result[key]).float()
            result[key] = torch.stack([self.recoloured(channel, shares) for channel in image])
        return result

    def recoloured(self, values: Tensor, shares: Tensor) -> Tensor:
        """Return intensities [H, W, D] under curves drawn for each class, whose shares are [K, H, W, D]."""
        one_for_all = float(np.clip(self.R.uniform(-0.5, 1.0), 0.0, 1.0))  # none in a third of the draws
        array = values.numpy()
        classes = shares.argmax(0).numpy()
        overall = self.curve(array.reshape(-1), *self.clusters[0])(array)
        found = np.zeros_like(array)
        for number, share in enumerate(shares.numpy()):
            own = array[classes == number]
            if not own.size:
                own = array[share > 0]
            if own.size:
                found += share * self.curve(own, *self.clusters[min(number, 1)])(array)
        found = one_for_all * overall + (1 - one_for_all) * found + self.grain(array.shape)
        return torch.from_numpy(found.astype(np.float32))

    def curve(self, values: np.ndarray, fewest: int, most: int) -> Any:
        """Return a random function of intensities for a class with these ones, [n]."""
        middles = find_clusters(values[:: -(-len(values) // SAMPLED)], int(self.R.randint(fewest, most + 1)))
        new = self.R.uniform(0, 1, len(middles))
        if middles[0] < DARK and self.R.random() < STAYS_DARK:
            new[0] = self.R.uniform(0, DARK)
        slope = self.R.uniform(-self.gain, self.gain) if len(middles) == 1 else 0.0
        return lambda array: np.interp(array, middles, new) + slope * (array - middles[0])

    def grain(self, size: tuple[int, ...]) -> np.ndarray:
        """Return random noise of a volume."""
        strength, sigma = self.R.uniform(0, self.noise), self.R.uniform(0, 1.2)
        noise = ndimage.gaussian_filter(self.R.normal(size=size).astype(np.float32), sigma)
        return strength * noise / max(float(noise.std()), 1e-6)


def class_shares(label: Tensor, classes: int | None = None) -> Tensor:
    """Return the shares of classes [K, H, W, D] float32, that sum to 1 everywhere; see `RandContrastsd`.

    Args:
        label: [K, H, W, D] probabilities; with `classes`, [1, H, W, D] classes.
    """
    if classes is None:
        total = label.float().sum(0)
        known = total > 0.5
        shares = label.float() / total.clamp_min(1e-6)
    else:
        index = label[0].long()
        known = index < classes
        shares = torch.nn.functional.one_hot(index.where(known, 0), classes).movedim(-1, 0).float()
    if bool(known.all()):
        return shares
    if not bool(known.any()):
        shares = torch.zeros_like(shares)
        shares[0] = 1.0
        return shares
    nearest = ndimage.distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    x, y, z = (torch.from_numpy(axis).long() for axis in nearest)
    return shares[:, x, y, z]


def find_clusters(values: np.ndarray, count: int) -> np.ndarray:
    """Return the ascending middles of up to `count` clusters of numbers [n], by Lloyd's algorithm from an even spread.

    Clusters that stay empty are left out.
    """
    low, high = float(values.min()), float(values.max())
    middles = low + (high - low) * (np.arange(count) + 0.5) / count
    for _ in range(ROUNDS):
        own = np.searchsorted((middles[1:] + middles[:-1]) / 2, values)
        counts = np.bincount(own, minlength=len(middles))
        middles = (np.bincount(own, weights=values, minlength=len(middles)) / np.maximum(counts, 1))[counts > 0]
    return middles
