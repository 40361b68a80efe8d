"""Sub-classes of the positive slices: what a label looks like in its different slices, found without labels."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor

from ..common.errors import InputError
from ..common.files.atomic_write import write_atomic

FILE = "subclasses.safetensors"
STARTS = 10
ITERATIONS = 50


class SubClasses:
    """K-means of the positive slices of each label (WeakMedSAM's SCE), fitted to training cases alone and seeded.

    The released code fits to validation and test slices too, and without a seed.

    Args:
        count: K, sub-classes of each label; 1 for none, with which a classifier has no child head.
        seed: of the starts.
        folder: where the centroids go (`subclasses.safetensors`); the same slices find them again there. None: nowhere.

    Raises:
        InputError: a count below 1.
    """

    def __init__(self, count: int = 8, seed: int = 0, folder: str | Path | None = None) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"subclasses is {count!r}; wanted 1 (none) or more for each label")
        self.count, self.seed = count, seed
        self.file = None if folder is None else Path(folder).expanduser() / FILE
        self.centroids: list[Tensor] = []
        self.sizes: list[list[int]] = []
        self._bits: dict[str, Tensor] = {}
        self._children: dict[str, Tensor] = {}

    def fit(self, features: Mapping[str, Tensor], bits: Mapping[str, Tensor]) -> SubClasses:
        """Cluster the positive slices of each label; sub-class 0 is the largest.

        A label with fewer different positive slices than K gets fewer sub-classes; their outputs are then never asked
        for.

        Args:
            features: case -> [n, D], pooled over each slice; training cases only.
            bits: case -> bool [P, n].

        Raises:
            InputError: no case, or features and bits of different slices, one line each.
        """
        if not features:
            raise InputError("found no case to cluster; wanted one or more")
        shapes = {
            case: (tuple(f.shape), tuple(bits[case].shape if case in bits else ())) for case, f in features.items()
        }
        problems = [
            f"case {case}: features {feature}, bits {bit}; wanted [n, D] and [P, n]"
            for case, (feature, bit) in shapes.items()
            if len(feature) != 2 or len(bit) != 2 or feature[0] != bit[1]
        ]
        if problems:
            raise InputError(problems)
        self._bits = {case: torch.as_tensor(bits[case]).bool().cpu() for case in sorted(features)}
        slices = np.concatenate([_numbers(features[case]) for case in self._bits])  # [slices of all cases, D]
        positive = torch.cat(list(self._bits.values()), dim=1).numpy()  # [P, slices of all cases]
        identity = self._identity(slices, positive)
        known = self._read(identity)
        found = known or [_cluster(slices[row], self.count, self.seed + p) for p, row in enumerate(positive)]
        self.centroids = [torch.from_numpy(centroids) for centroids in found]
        if known is None and self.file is not None:
            write_atomic(
                self.file, save({f"label.{p}": c for p, c in enumerate(self.centroids)}, {"identity": identity})
            )
        nearest = np.zeros(positive.shape, dtype=np.int64)
        for p, row in enumerate(positive):
            if row.any():
                nearest[p, row] = vq(slices[row], found[p])[0]
        self.sizes = [np.bincount(nearest[p, row], minlength=self.count).tolist() for p, row in enumerate(positive)]
        lengths = [own.shape[1] for own in self._bits.values()]
        parts = torch.from_numpy(nearest).split(lengths, dim=1)  # [P, n] for each case
        self._children = dict(zip(self._bits, parts, strict=True))
        return self

    def child(self, case: str) -> Tensor:
        """Return the sub-classes of a case's slices, multi-hot float32 [n, P * K + 1].

        Entry 0 stands for a slice without any label, 1 + p * K + k for sub-class k of label p.

        Raises:
            InputError: nothing was fitted, or not to this case.
        """
        if case not in self._children:
            raise InputError(f"case {case} was not clustered; wanted one of {len(self._children)} fitted cases")
        bits, nearest = self._bits[case], self._children[case]
        hot = torch.nn.functional.one_hot(nearest, self.count) * bits[..., None]  # [P, n, K]
        hot = hot.permute(1, 0, 2).flatten(1).float()  # [n, P * K]
        return torch.cat([(~bits.any(0)).float()[:, None], hot], dim=1)

    def _identity(self, slices: np.ndarray, positive: np.ndarray) -> str:
        digest = hashlib.sha256(slices.tobytes() + np.packbits(positive).tobytes()).hexdigest()
        shapes = [list(slices.shape), list(positive.shape)]
        return json.dumps({"count": self.count, "seed": self.seed, "shapes": shapes, "slices": digest})

    def _read(self, identity: str) -> list[np.ndarray] | None:
        """Return the centroids that were fitted to the same slices, if the file has them."""
        if self.file is None or not self.file.is_file():
            return None
        try:
            with safe_open(self.file, framework="pt") as file:
                if (file.metadata() or {}).get("identity") != identity:
                    return None
                return [file.get_tensor(f"label.{p}").numpy() for p in range(len(file.keys()))]
        except (SafetensorError, OSError, ValueError):
            return None


def _cluster(slices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the centroids [k, D] of the best of several starts, the largest cluster's first; k <= count."""
    distinct = len(np.unique(slices, axis=0)) if len(slices) else 0
    if distinct <= 1 or count == 1:
        return slices.mean(0, keepdims=True) if len(slices) else slices[:0]
    best, least = None, np.inf
    random = np.random.default_rng(seed)
    for _ in range(STARTS):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="One of the clusters is empty")
            centroids, _ = kmeans2(slices, min(count, distinct), iter=ITERATIONS, minit="++", seed=random)
        nearest, distance = vq(slices, centroids)
        inertia = float((distance**2).sum())
        if inertia < least:
            sizes = np.bincount(nearest, minlength=len(centroids))
            order = np.argsort(-sizes, kind="stable")
            best, least = centroids[order[sizes[order] > 0]], inertia
    return best


def _numbers(features: Tensor) -> np.ndarray:
    return features.detach().cpu().double().numpy()
