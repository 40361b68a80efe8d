"""A SAM's features of every slice: computed once and kept on disk while the backbone is frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from rich.progress import track
from torch import Tensor

from .cohort import WeakCohort
from .common.errors import InputError
from .common.pseudo_label import plain
from .common.sam.backbone import SliceBackbone, build_backbone
from .common.sam.feature_cache import FeatureCache
from .common.sam.volume import crop_padding, encode_volume
from .common.sam.weights import file_sha256, find_weights
from .common.slice_labels import slice_bits

KINDS = ("embedding", "pre_neck")


def chosen_backbone(backbone: str | None, cohort: WeakCohort, prior: str, walk: str | None) -> str | None:
    """Return the name of the backbone where anything needs one, else None, so that nobody has to get its weights.

    An activation map needs it, and a walk along its masks. A prior `auto` is an activation map unless every label has a
    box.

    Raises:
        InputError: it is needed, and there is none.
    """
    boxed = all(place.box is not None for place in cohort.locations.values())
    reasons = ["the activation map of prior " + prior] if prior == "cam" or (prior == "auto" and not boxed) else []
    reasons += [f"walk {walk}"] if walk in ("points", "boxes") else []
    if not reasons:
        return None
    if backbone in (None, "null", "None"):
        raise InputError(
            f"backbone is null, but {' and '.join(reasons)} needs one; wanted a name such as mobile_sam, or a typical "
            "box of each label in the datalist's locations and a walk without prompts"
        )
    return backbone


class SliceFeatures:
    """Encode volumes slice by slice.

    Args:
        backbone: name of a 2D member of the SAM family; None: there is none, and only a location prior can be used.
        checkpoint: path of its weights; None looks where the package looks.
        image_size: side of the encoder's input, pixels.
        kind: "embedding" (what the mask decoder takes, after the neck) or "pre_neck".
        context: 2.5D: the three channels of slice z are the slices z - context, z, z + context; 0: grey three times.
        slice_axis: 0, 1 or 2 of the RAS grid.
        folder: of the cache.
        tuned: the backbone is trained with the classifier, so that nothing is cached and everything is encoded anew.
        pretrained: False: random weights, for tests.

    Raises:
        InputError: an unknown kind; weights missing, of the wrong sha256, or of another network.
    """

    def __init__(
        self,
        folder: str,
        slice_axis: int,
        backbone: str | None = None,
        checkpoint: str | None = None,
        image_size: int | None = 256,
        kind: str = "embedding",
        context: int = 0,
        tuned: bool = False,
        pretrained: bool = True,
        device: str | torch.device = "cpu",
    ) -> None:
        backbone, checkpoint = (None if v in (None, "null", "None") else v for v in (backbone, checkpoint))
        if kind not in KINDS:
            raise InputError(f"feature_kind is {kind!r}; wanted {' or '.join(KINDS)}")
        if int(context) < 0:
            raise InputError(f"context is {context}; wanted 0 (one slice) or the distance of the neighbours in slices")
        self.name, self.kind, self.context, self.slice_axis = backbone, kind, int(context), int(slice_axis)
        self.device, self.backbone = torch.device(device), None
        self.tuned = tuned and backbone is not None
        self._images: dict[str, Tensor] = {}
        self._bits: dict[str, Tensor] = {}
        if backbone is not None:
            self.backbone: SliceBackbone = build_backbone(backbone, checkpoint, image_size, pretrained).to(self.device)
            sha256 = file_sha256(find_weights(backbone, checkpoint)) if pretrained else "random"
            settings = {"image_size": image_size, "context": self.context, "axis": self.slice_axis, "kind": kind}
            self.disk = FeatureCache(folder, backbone, sha256, **settings)

    @property
    def channels(self) -> int:
        """Channels of what `features` returns; 1 without a backbone, where nobody uses them."""
        if self.backbone is None:
            return 1
        neck = self.backbone.image_encoder.neck[0]
        return neck.in_channels if self.kind == "pre_neck" else neck.out_channels

    def prepare(self, images: Sequence[Mapping[str, Any]]) -> None:
        """Note the images {"case", "image" [1, H, W, D], "presence" [P, H, W, D]}, and encode what is not cached yet.

        Several processes share the work.
        """
        for item in images:
            self.note(item["case"], item["image"])
            self._bits[item["case"]] = slice_bits(plain(item["presence"]), self.slice_axis)
        if self.backbone is None or self.tuned:
            return
        own = list(self._bits)[idist.get_rank() :: idist.get_world_size()]
        for case in track(own, description=f"{self.name} features", disable=idist.get_rank() > 0):
            self._maps(self._images[case])
        idist.barrier()

    def note(self, case: str, image: Tensor) -> None:
        """Let `features` and `embedding` know the image [1, H, W, D] of a case, in the place of an earlier one."""
        self._images[case] = plain(image).float().cpu()

    def features(self, case: str) -> Tensor:
        """Return the features [n, D, h, w] of all slices of a case, without the padding of the encoder's input."""
        image = self._images[case]
        planes = [n for axis, n in enumerate(image.shape[1:]) if axis != self.slice_axis]
        preprocessing = self.backbone.preprocessing
        covered = tuple(n / preprocessing.image_size for n in preprocessing.resized_size(*planes))
        return crop_padding(self._maps(image), covered)

    def embedding(self, case: str) -> Tensor:
        """Return what the mask decoder takes [n, C, h, w], the padding included."""
        maps = self._maps(self._images[case])
        if self.kind == "embedding":
            return maps
        with torch.no_grad():  # what is cached is one step before
            return torch.cat([self.backbone.embed(some.to(self.device)).float().cpu() for some in maps.split(8)])

    def bits(self, case: str) -> Tensor:
        """Return the presence bits bool [P, n] of a case, slice by slice of the common grid."""
        return self._bits[case]

    def pooled(self) -> dict[str, Tensor]:
        """Return the mean features [n, D] of the slices of every case, which the clusters are fitted to."""
        return {case: self.features(case).mean((2, 3)) for case in self._bits}

    @property
    def all_bits(self) -> dict[str, Tensor]:
        """Presence bits of every case."""
        return dict(self._bits)

    def _maps(self, image: Tensor) -> Tensor:
        """Return features [n, C, h, w] of an image [1, H, W, D], on the whole square that the encoder sees."""
        if self.tuned:
            return self._encode(image)
        return self.disk.get(image[None], lambda x: self._encode(x[0]))

    @torch.no_grad()
    def _encode(self, image: Tensor) -> Tensor:
        maps = encode_volume(
            self.backbone,
            image[None].to(self.device),
            slice_axis=self.slice_axis + 2,
            keep_padding=True,
            context=self.context,
            encoder=self.backbone.features if self.kind == "pre_neck" else None,
        )
        return maps[0].movedim(self.slice_axis + 1, 0).cpu()  # [C, ., ., .] -> [n, C, h, w]
