"""A SAM's features of every slice: computed once and kept on disk while the backbone is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...launch.words import optional, optional_number, truth
from ...precision import bf16_autocast
from ...processes import own_share, together
from ...slices.presence_volume import slice_bits
from ...tensors import grey, plain
from ..build import SamModel
from ..weights.known import file_sha256, find_weights
from .backbone import SliceBackbone, build_backbone
from .feature_cache import FeatureCache
from .slice_views import SliceView, make_views, stack_planes
from .volume import crop_padding, encode_volume

KINDS = ("embedding", "pre_neck")


class SliceFeatures:
    """Encode volumes slice by slice.

    Args:
        backbone: name of a 2D member of the SAM family; None: there is none, and only bits are known.
        checkpoint: path of its weights; None looks where the package looks.
        image_size: side of the encoder's input, pixels.
        kind: "embedding" (what the mask decoder takes, after the neck) or "pre_neck".
        context: 2.5D: the three channels of slice z are the slices z - context, z, z + context; 0: grey three times.
        slice_axis: 0, 1 or 2 of the RAS grid.
        folder: of the cache.
        tuned: the backbone is trained with the classifier, so that nothing is cached and everything is encoded anew.
        pretrained: False: random weights, for tests.
        sam: the member that `backbone` names, already built from these weights, to be used in place of another copy.
        channel: of an image, that is encoded; None: the mean of all.

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
        sam: SamModel | None = None,
        channel: int | None = None,
    ) -> None:
        backbone, checkpoint = optional(backbone), optional(checkpoint)
        if kind not in KINDS:
            raise InputError(f"feature_kind is {kind!r}; wanted {' or '.join(KINDS)}")
        if int(context) < 0:
            raise InputError(f"context is {context}; wanted 0 (one slice) or the distance of the neighbours in slices")
        self.name, self.kind, self.context, self.slice_axis = backbone, kind, int(context), int(slice_axis)
        self.device = torch.device(device)
        self.channel = optional_number("sam_channel", channel, whole=True, least=0)
        self.backbone: SliceBackbone | None = None
        self.tuned = truth("tune", tuned) and backbone is not None
        self._images: dict[str, Tensor] = {}
        self._bits: dict[str, Tensor] = {}
        self._views: dict[tuple[str, int], list[SliceView]] = {}
        if backbone is not None:
            built = build_backbone(backbone, checkpoint, image_size, pretrained) if sam is None else SliceBackbone(sam)
            self.backbone = built.to(self.device)
            sha256 = file_sha256(find_weights(backbone, checkpoint)) if pretrained else "random"
            image_size = self.backbone.image_size if sam is not None else image_size
            settings = {"image_size": image_size, "context": self.context, "axis": self.slice_axis, "kind": kind}
            self.disk = FeatureCache(folder, backbone, sha256, **settings)
            del settings["axis"]  # of a view it has no meaning
            self.disk_of_views = FeatureCache(folder, backbone, sha256, **settings, view=True)

    @property
    def settings(self) -> dict[str, Any]:
        """What the features depend on beside the images, for run.json."""
        size = None if self.backbone is None else self.backbone.image_size
        return {"backbone": self.name, "image_size": size, "kind": self.kind, "context": self.context,
                "slice_axis": self.slice_axis, "tuned": self.tuned}  # fmt: skip

    @property
    def channels(self) -> int:
        """Channels of what `features` returns; 1 without a backbone, where nobody uses them."""
        if self.backbone is None:
            return 1
        neck = self.backbone.image_encoder.neck[0]
        return neck.in_channels if self.kind == "pre_neck" else neck.out_channels

    def prepare(self, images: Sequence[Mapping[str, Any]]) -> None:
        """Note the images {"case", "image" [C, H, W, D], "presence" [P, H, W, D]}, and encode what is not cached yet.

        Several processes share the work.
        """
        for item in images:
            self.note(item["case"], item["image"])
            self._bits[item["case"]] = slice_bits(plain(item["presence"]), self.slice_axis)
        if self.backbone is None or self.tuned:
            return
        for case in together(own_share(self._bits), f"{self.name} features"):
            self._maps(self._images[case])

    def prepare_views(self, slices: Iterable[tuple[str, int, Tensor]], count: int, seed: int = 0) -> None:
        """Make `count` augmented views of each slice (case, index, mask [rows, columns] int64), and encode what is not
        cached yet. The images of the cases are known (`prepare`). Several processes share the work.
        """
        for case, index, mask in slices:
            self._views[case, index] = make_views(self.planes(case, index), mask, count, seed, case, index)
        if self.backbone is not None and not self.tuned and count:
            for case, index in together(own_share(self._views), f"{self.name} features of views"):
                self.views(case, index)

    def note(self, case: str, image: Tensor) -> None:
        """Let `features` and `embedding` know the image [C, H, W, D] of a case, in the place of an earlier one."""
        self._images[case] = grey(plain(image), self.channel).float().cpu()

    def features(self, case: str) -> Tensor:
        """Return the features [n, D, h, w] of all slices of a case, without the padding of the encoder's input."""
        image = self._images[case]
        planes = [n for axis, n in enumerate(image.shape[1:]) if axis != self.slice_axis]
        preprocessing = self.backbone.preprocessing
        rows, columns = (n / preprocessing.image_size for n in preprocessing.resized_size(*planes))
        return crop_padding(self._maps(image), (rows, columns))

    def embedding(self, case: str) -> Tensor:
        """Return what the mask decoder takes [n, C, h, w], the padding included."""
        return self._embed(self._maps(self._images[case]))

    def slice_embedding(self, case: str, index: int) -> Tensor:
        """Return `embedding` of one slice, [C, h, w], without reading the others."""
        image = self._images[case]
        if self.tuned:
            return self._embed(self._encode(image, [index]))[0]
        return self._embed(self.disk.get_row(image[None], index, lambda x: self._encode(x[0]))[None])[0]

    def planes(self, case: str, index: int) -> Tensor:
        """Return what the encoder is given of a slice, [1, rows, columns], or with context [3, rows, columns]."""
        return context_planes(self._images[case], self.slice_axis, self.context, [index])[0]

    def all_planes(self, case: str) -> Tensor:
        """Return `planes` of every slice, [n, 1 or 3, rows, columns]."""
        return context_planes(self._images[case], self.slice_axis, self.context)

    def views(self, case: str, index: int) -> Tensor:
        """Return `embedding` of the augmented views of a slice, [V, C, h, w] (`prepare_views`)."""
        planes = stack_planes(self._views[case, index])
        if self.tuned:
            return self._embed(self._encode_planes(planes))
        return self._embed(self.disk_of_views.get(planes, self._encode_planes))

    def view(self, case: str, index: int, number: int) -> tuple[Tensor, SliceView]:
        """Return the embedding [C, h, w] of one view, and the view."""
        views = self._views[case, index]
        if self.tuned:
            return self._embed(self._encode_planes(views[number].planes[None]))[0], views[number]
        maps = self.disk_of_views.get_row(stack_planes(views), number, self._encode_planes)
        return self._embed(maps[None])[0], views[number]

    def view_masks(self, case: str, index: int) -> Tensor:
        """Return the masks of the views of a slice, [V, rows, columns] int64."""
        return torch.stack([view.mask for view in self._views[case, index]])

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
    def _embed(self, maps: Tensor) -> Tensor:
        """Turn what is cached, [n, ., h, w], into what the mask decoder takes [n, C, h, w]."""
        if self.kind == "embedding":
            return maps
        return torch.cat([self.backbone.embed(some.to(self.device)).float().cpu() for some in maps.split(8)])

    @torch.no_grad()
    def _encode(self, image: Tensor, slices: Sequence[int] | None = None) -> Tensor:
        maps = encode_volume(
            self.backbone,
            image[None].to(self.device),
            slice_axis=self.slice_axis + 2,
            slices=slices,
            keep_padding=True,
            context=self.context,
            encoder=self._encoder,
        )
        return maps[0].movedim(self.slice_axis + 1, 0).cpu()  # [C, ., ., .] -> [n, C, h, w]

    @torch.no_grad()
    def _encode_planes(self, planes: Tensor) -> Tensor:
        """Return features [n, ., h, w] of planes [n, 1 or 3, rows, columns], on the encoder's whole square."""
        encoder, maps = self._encoder or self.backbone.image_encoder, []
        for some in planes.split(1):  # more at once does not pay on a CPU
            with bf16_autocast(self.device):
                maps.append(encoder(self.backbone.preprocessing(some.to(self.device))).float().cpu())
        return torch.cat(maps)

    @property
    def _encoder(self) -> Callable[[Tensor], Tensor] | None:
        return self.backbone.features if self.kind == "pre_neck" else None


def context_planes(image: Tensor, slice_axis: int, context: int = 0, slices: Sequence[int] | None = None) -> Tensor:
    """Return slices of an image as channels: [n, 1, rows, columns], or with context the slices around each as well.

    Args:
        image: [1, H, W, D].
        slice_axis: 0, 1 or 2.
        context: c > 0 gives the slices z - c, z and z + c, [n, 3, rows, columns]; beyond the ends the outermost.
        slices: which; None for all, in their order.
    """
    image = image.movedim(slice_axis + 1, 1)[0]  # [n, rows, columns]
    steps = torch.tensor([-context, 0, context] if context else [0])
    wanted = torch.arange(len(image)) if slices is None else torch.as_tensor(list(slices))
    return image[(wanted[:, None] + steps).clamp(0, len(image) - 1)]
