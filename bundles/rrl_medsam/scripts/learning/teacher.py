"""The frozen SAM as a teacher: its features of every volume, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait
from torch import Tensor

from ..common.launch.words import optional, optional_number
from ..common.learning.distillation import FeatureDistillation
from ..common.processes import all_done, own_share
from ..common.sam.build import build_sam
from ..common.sam.features.feature_cache import FeatureCache
from ..common.sam.features.volume import encode_volume
from ..common.sam.weights.known import file_sha256, find_weights
from ..common.tensors import grey, match_grid, plain


class SamTeacher:
    """Encode volumes slice by slice with a frozen SAM and keep the features on disk (fp16).

    Args:
        sam: name of a SAM family member; None: there is no teacher and stage 1a is left out.
        checkpoint: path of its weights; None looks where the package looks.
        image_size: side of the encoder's input, pixels; 256 gives MobileSAM's 16 x 16 tokens.
        slices: evenly spaced axial slices of a volume to encode; None for all.
        folder: of the cache.
        channel: of the images, that it sees; None: the mean of all.

    Raises:
        InputError: weights missing, of the wrong sha256, or not those of `sam`; raised at once, before any training.
    """

    def __init__(
        self,
        sam: str | None,
        folder: str,
        checkpoint: str | None = None,
        image_size: int | None = 256,
        slices: int | None = 16,
        device: str | torch.device = "cpu",
        channel: int | None = None,
    ) -> None:
        self.channel = optional_number("sam_channel", channel, whole=True, least=0)
        sam, checkpoint = optional(sam), optional(checkpoint)
        self.name, self.device = sam, torch.device(device)
        self.slices = optional_number("sam_slices", slices, whole=True, least=1)
        self.model = None
        self._features: dict[str, Tensor] = {}
        if sam is not None:
            self.model = build_sam(sam, checkpoint, image_size).to(self.device)
            sha256 = file_sha256(find_weights(sam, checkpoint))
            self.disk = FeatureCache(folder, sam, sha256, image_size=image_size, slices=self.slices)

    def encode(self, image: Tensor) -> Tensor:
        """Return the features [T, h, w, d] of an image [C, H, W, D] in [0, 1], from the cache where it has them."""
        features = self.disk.get(
            grey(plain(image), self.channel)[None],
            lambda x: encode_volume(self.model, x.to(self.device), slices=self.slices).cpu(),
        )
        return features[0].float()

    def prepare(
        self, images: Sequence[Mapping[str, Any]], distillation: FeatureDistillation, spatial_size: Sequence[int]
    ) -> None:
        """Encode every volume, keep its features on the student's grid, and standardise the distillation by them.

        Args:
            spatial_size: of the student's deepest features.
        """
        if self.model is None:
            if idist.get_rank() == 0:
                print("sam is null: no distillation; the report says so")
            return
        all_done(own_share(images), lambda item: self.encode(item["image"]), "SAM features", device=self.device)
        for item in images:
            self._features[item["case"]] = match_grid(self.encode(item["image"])[None], tuple(spatial_size))[0]
        distillation.standardise_by(list(self._features.values()))

    def features(self, case: str) -> Tensor:
        """Return what `prepare` kept of a case, [T, h, w, d]."""
        return self._features[case]


class AddTeacherd(MapTransform, RandomizableTrait):
    """Add the teacher's features of a case as `teacher` [T, h, w, d]; nothing where there is no teacher."""

    def __init__(self, teacher: SamTeacher) -> None:
        super().__init__(["case"])
        self.teacher = teacher

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return dict(data) if self.teacher.model is None else {**data, "teacher": self.teacher.features(data["case"])}
