"""What segments without training: labelled slices that vote, and a frozen SAM that is asked by their vote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.sam.build import SamModel, build_sam
from ..common.sam.features.volume import crop_padding
from ..common.slices.middle_out import middle_slice, walk_outwards
from ..common.tensors import grey
from ..generalists.consultation import Answer, combine
from ..generalists.slice_generalist import SliceGeneralist
from .matching import bring_masks, match_slices
from .supports import Supports, make_supports

FORM = "form"  # name of the tensor that says how the others are used
LEAST = 1e-7  # probability
THICK = 1.5  # times the spacing of both other axes, from which on an axis is that of the slices
AXIAL = 2


class ZeroStep(nn.Module):
    """Segment a scan by the labelled slices that are nearest to each of its slices; nothing is learnt.

    After FATE-SAM (He et al., arXiv:2501.09138), whose labelled slices are the memory of SAM 2. Here their masks are
    brought to the slice by matched features and vote; the vote prompts SAM by box and mask. From the middle slice of a
    structure outwards the mask of the neighbour has a vote, too.

    Its state holds SAM, the supports and the settings: a model.pt with these needs no other file.

    Args:
        sam: name of a member that sees slices, or a `SamModel`.
        classes: K, background included.
        checkpoint, image_size: of `build_sam`, where `sam` is a name.
        prompt: kinds of prompts, see `SliceGeneralist`.
        nearest, shift, window: of `Supports.nearest`.
        reach: of `match_slices`, tokens of SAM.
        hand_on: weight of the neighbour's mask, where a labelled slice has 1.
        sam_share: of SAM's answer in a mask, 0 to 1; the rest is the vote's.
        slice_axis: of the volume, 0 to 2.
        channel: of an image, that SAM sees; None: the mean of all.

    forward: image [B, C, H, W, D] in [0, 1], any depth -> log-probabilities [B, K, H, W, D] float32. Beyond the size of
    the supports' slices, which lies in the middle, is background.

    Raises:
        InputError: see `build_sam` and `SliceGeneralist`.
    """

    def __init__(
        self,
        sam: str | SamModel,
        classes: int,
        checkpoint: str | None = None,
        image_size: int | None = 256,
        prompt: str = "box, box+mask",
        nearest: int = 3,
        shift: float = 0.2,
        window: float = 0.05,
        reach: int = 1,
        hand_on: float = 1.0,
        sam_share: float = 0.5,
        slice_axis: int = AXIAL,
        channel: int | None = None,
    ) -> None:
        super().__init__()
        self.sam = build_sam(sam, checkpoint, image_size) if isinstance(sam, str) else sam
        self.classes, self.channel, self.slice_axis = classes, channel, slice_axis
        self.nearest, self.shift, self.window, self.reach = nearest, shift, window, reach
        self.hand_on, self.sam_share = hand_on, sam_share
        self.generalist = SliceGeneralist(self.sam, prompt, members=1, max_gap=0, min_voxels=1)
        self.supports: Supports | None = None
        settings = {
            "sam": self.sam.name, "classes": classes, "image_size": self.sam.preprocessing.image_size,
            "prompt": self.generalist.prompt, "nearest": nearest, "shift": shift, "window": window, "reach": reach,
            "hand_on": hand_on, "sam_share": sam_share, "slice_axis": slice_axis, "channel": channel,
        }  # fmt: skip
        self.settings: dict[str, Any] = settings
        self.register_buffer(FORM, torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8))
        self._last: tuple[Tensor, Tensor] | None = None

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> ZeroStep:
        """Return one into which the tensors of a state fit, which they are still to be loaded into.

        Args:
            tensors: by their names, which begin with the prefix.
        """
        settings = json.loads(bytes(tensors[f"{prefix}{FORM}"].tolist()))
        sam = build_sam(settings.pop("sam"), image_size=settings.pop("image_size"), pretrained=False)
        made = cls(sam, **settings)
        names = ("features", "labels", "positions", "cases")
        made.supports = Supports(*(torch.empty_like(tensors[f"{prefix}supports.{name}"]) for name in names))
        return made

    @torch.no_grad()
    def know(self, volumes: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Keep labelled volumes as supports: images [C, H, W, D] in [0, 1], probabilities [K, H, W, D], all of a size.

        Raises:
            InputError: see `make_supports`.
        """
        seen = [(self._sliced(grey(image, self.channel)), self._sliced(label)) for image, label in volumes]
        found = [(self._features(self._embed(image), image), label) for image, label in seen]
        self.supports = make_supports(found).to(next(self.sam.parameters()).device)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([self.segment(one) for one in image]).clamp_min(LEAST).log()

    def segment(self, image: Tensor) -> Tensor:
        """Return the probabilities [K, H, W, D] of an image [C, H, W, D]."""
        seen, framed = self._framed(image)
        embedding = self._embed(framed)
        votes, count = self.vote(embedding, framed)
        soft = votes.sum(1) / count.clamp_min(1).view(-1, 1, 1, 1)
        soft[:, 0] += (count == 0).view(-1, 1, 1)
        done = self._walk(embedding, soft, count)
        volume = soft.movedim(0, -1)  # [K, H, W, D]
        answer = Answer(done.movedim(0, -1)[None], torch.ones(self.classes - 1, dtype=torch.bool))
        return self._unframed(combine([answer], volume)[0], seen)

    def copied(self, image: Tensor) -> Tensor:
        """Return the label of the one nearest slice for each slice, as it is: one-hot [K, H, W, D]."""
        seen, framed = self._framed(image)
        index = self._nearest(self._features(self._embed(framed), framed), 1)[:, 0]
        labels = self._supports.labels[index.clamp_min(0)].long() * (index >= 0).view(-1, 1, 1)
        return self._unframed(F.one_hot(labels, self.classes).permute(3, 1, 2, 0).float(), seen)

    def vote(self, embedding: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the nearest slices show, brought to each slice, [D, nearest, K, H, W], and how many there are.

        Args:
            embedding: [D, C, s, s] of the image [1, H, W, D].
        """
        supports, features = self._supports, self._features(embedding, image)
        index = self._nearest(features, self.nearest)
        votes = []
        for own, found in zip(features, index, strict=True):
            there = supports.features[found.clamp_min(0)].float()
            masks = F.one_hot(supports.labels[found.clamp_min(0)].long(), self.classes).movedim(-1, 1).float()
            brought = bring_masks(masks, match_slices(own.expand_as(there), there, self.reach))
            votes.append(brought * (found >= 0).view(-1, 1, 1, 1))
        return torch.stack(votes), (index >= 0).sum(1)

    def _walk(self, embedding: Tensor, soft: Tensor, count: Tensor) -> Tensor:
        """Return the masks [D, K - 1, H, W]: SAM's answers to the votes, from the middle of each structure outwards."""
        done = soft[:, 1:].clone()
        for steps in self._steps(soft):
            for label, before, z in steps:
                if before != z:
                    given, weight = done[z, label] * count[z], count[z] + self.hand_on
                    done[z, label] = (given + self.hand_on * done[before, label]) / weight
            asked = sorted({z for _, _, z in steps})
            prompts = soft.new_zeros(self.classes, *soft.shape[-2:], len(asked))
            for label, _, z in steps:
                prompts[label + 1, ..., asked.index(z)] = done[z, label]
            found = self.generalist.answer(embedding[asked], prompts).foreground
            there = (prompts[1:] > 0.5).flatten(1, 2).any(1)  # [K - 1, n]: whoever is not seen is not asked about
            for label, _, z in steps:
                place = asked.index(z)
                if there[label, place]:
                    done[z, label] += self.sam_share * (found[label, ..., place] - done[z, label])
        return done

    def _steps(self, soft: Tensor) -> Iterator[list[tuple[int, int, int]]]:
        """Yield what is asked together: label, the neighbour that is done, slice; of a first slice both are one."""
        seen = soft[:, 1:].flatten(2)
        gates = (seen.amax(2) > 0).T.tolist()
        seeds = [middle_slice(areas) for areas in (seen > 0.5).sum(2).T.cpu()]
        yield [(label, seed, seed) for label, seed in enumerate(seeds) if seed is not None]
        walks = [walk_outwards(seed, gate) for seed, gate in zip(seeds, gates, strict=True)]
        for together in zip_longest(*walks, fillvalue=()):
            yield [(label, *step) for label, steps in enumerate(together) for step in steps]

    @property
    def _supports(self) -> Supports:
        if self.supports is None:
            raise RuntimeError("no labelled volume is known yet")
        return self.supports

    def _nearest(self, features: Tensor, count: int) -> Tensor:
        return self._supports.nearest(features, count, self.shift, self.window)

    def _embed(self, image: Tensor) -> Tensor:
        """Encode the slices of [1, H, W, D]; the last volume's are kept, since it is asked about twice."""
        if self._last is None or not torch.equal(self._last[0], image):
            self._last = (image, self.generalist.embed(image[None]))
        return self._last[1]

    def _features(self, embedding: Tensor, image: Tensor) -> Tensor:
        """Return the part of the embedding that the slices cover, without its mean over the scan."""
        side, size = self.sam.preprocessing.image_size, self.sam.preprocessing.resized_size(*image.shape[1:3])
        features = crop_padding(embedding, (size[0] / side, size[1] / side))
        return features - features.mean((0, 2, 3), keepdim=True)

    def _sliced(self, maps: Tensor) -> Tensor:
        """Return maps [C, ...] with the axis of the slices last."""
        return maps.movedim(self.slice_axis + 1, -1).float()

    def _framed(self, image: Tensor) -> tuple[tuple[int, ...], Tensor]:
        """Return the size of an image with its slices last, and its middle [1, h, w, D] of the supports' size."""
        image = self._sliced(grey(image, self.channel))
        return tuple(image.shape[1:]), _resize(image, self._supports.labels.shape[1:])

    def _unframed(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Return probabilities [K, h, w, D] on an image's own size, background beyond, the axes as the image's."""
        whole = _resize(maps, size[:2])
        whole[0] += whole.sum(0) == 0
        return whole.movedim(-1, self.slice_axis + 1)


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Crop or pad maps [C, H, W, D] about their middle to H and W of a size, by zeros."""
    (rows, columns), (height, width) = size, maps.shape[1:3]
    up, left = (rows - height) // 2, (columns - width) // 2
    return F.pad(maps, (0, 0, left, columns - width - left, up, rows - height - up))


def find_slice_axis(pixdim: Sequence[float]) -> int:
    """Return the axis of the slices, 0 to 2: that of a spacing (mm) much above both others, else the axial one."""
    first, second, _ = sorted(range(3), key=lambda axis: -pixdim[axis])
    return first if pixdim[first] > THICK * pixdim[second] else AXIAL
