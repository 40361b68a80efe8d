"""A volume, slice by slice and yet as a volume: presence, activation maps, boxes and masks agree along the slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.imaging.cam import SCOPES, cam_volume
from ..common.imaging.prompts import bounding_boxes
from ..common.imaging.solid import keep_solid
from ..common.launch.words import truth
from ..slice_model.ada_sam import NOT_ASKED, RUNNING, SIGMOID, AdaSam
from ..slice_model.slice_prompts import batch_boxes, mask_prompt
from .box_track import median_boxes
from .propagation import choose_seeds, propagate
from .slice_gate import gate_slices, longest_runs, on_slices, smooth_between

CAM_SCOPES = (*SCOPES, RUNNING)
FIRST_PROMPTS = ("cam", "whole", "both")
MASK = 0.5  # a voxel above this probability belongs to a slice's mask


class VolumeAnswer(NamedTuple):
    """What is known of a volume: P foreground classes, K = P + 1, n slices.

    probabilities: [K, H, W, D], summing to 1 over K.
    presence: [P, n], of each class on each slice, as the network sees it, before smoothing.
    gate: bool [P, n], on which slices each class was looked for.
    boxes: [P, n, 4] of the first prompts: those of the activation maps, or the true ones of `oracle`.
    cam: [P, H, W, D] in [0, 1].
    confidence: [P, n] in [0, 1]: of a mask where the class was looked for, of its absence elsewhere.
    runs: int64 [P], how many runs of slices had the class before the longest was taken.
    """

    probabilities: Tensor
    presence: Tensor
    gate: Tensor
    boxes: Tensor
    cam: Tensor
    confidence: Tensor
    runs: Tensor


class VolumeInference:
    """Segment volumes with a network for slices, by its own prompts.

    Presence is smoothed along the slices and one run of them kept. The activation maps, brought to [0, 1] over the
    volume and smoothed along the slices, give each slice a box; a running median takes out jumps. A first pass answers
    these, further passes the boxes of the own answers, then masks are handed on from the surest slice
    outwards. What comes of it is smoothed and its parts other than the largest go. Each step has its switch.

    Args:
        network: asked in eval mode, and left as it was.
        slice_axis: 0, 1 or 2 of the volume's grid.
        presence_sigma: of the Gaussian along the slices, in slices; 0 for none.
        hysteresis: (low, high): slices of probability above low, in a run that reaches above high.
        use_extents: hold each class to as many slices as it has in the training volumes; see `within_extents`.
        longest_run: of the runs of slices keep that with the highest sum of probabilities; True, False, or the label
            values to do it for.
        cam_scope: over what a map is normalised: "volume", "slice", or "running" for the network's own range.
            None: "running" where the network's maps are probabilities (`cam_range` sigmoid), else "volume".
        cam_sigma: of the Gaussian along the slices, in slices; 0 for none.
        box_median: slices of the running median, odd; 1 for none.
        first_prompt: "cam" boxes; "whole" for the whole slice, which needs no good map; "both" for the mean answer.
        passes: 1 or more.
        mask_prompt: give the activation maps as mask prompts too; None leaves it to the network.
        answer_prompt: give the own answers, of the pass or the slice before, as mask prompts too. A network that has
            not met them in training is better off with boxes alone.
        propagate: hand masks on; see `propagate` for `propagate_reach` (voxels) and `propagate_share`.
        smooth: of the Gaussian on the probabilities, voxels; 0 for none.
        largest_component: True, False, or the label values to do it for.
        fill_holes: give background that a structure encloses to the structure.
        label_values: of the classes, background included or not, for the two lists; None: 1 to P.
        batch_size: slices asked at once.

    Raises:
        InputError: a setting that is none of the above.
    """

    def __init__(
        self,
        network: AdaSam,
        slice_axis: int,
        presence_sigma: float = 1.0,
        hysteresis: Sequence[float] = (0.3, 0.6),
        use_extents: bool = True,
        longest_run: bool | Sequence[int] = True,
        cam_scope: str | None = None,
        cam_sigma: float = 1.0,
        box_median: int = 5,
        first_prompt: str = "cam",
        passes: int = 2,
        mask_prompt: bool | None = None,
        answer_prompt: bool = False,
        propagate: bool = True,
        propagate_reach: float = 2.0,
        propagate_share: float = 0.5,
        smooth: float = 1.0,
        largest_component: bool | Sequence[int] = True,
        fill_holes: bool = True,
        label_values: Sequence[int] | None = None,
        batch_size: int = 8,
    ) -> None:
        if cam_scope is None:
            cam_scope = RUNNING if network.cam_range == SIGMOID else "volume"
        problems = []
        if slice_axis not in (0, 1, 2):
            problems.append(f"slice_axis is {slice_axis!r}; wanted 0, 1 or 2")
        if cam_scope not in CAM_SCOPES:
            problems.append(f"cam_scope is {cam_scope!r}; wanted one of {', '.join(CAM_SCOPES)}")
        if first_prompt not in FIRST_PROMPTS:
            problems.append(f"first_prompt is {first_prompt!r}; wanted one of {', '.join(FIRST_PROMPTS)}")
        if len(hysteresis) != 2 or not 0 <= hysteresis[0] <= hysteresis[1] <= 1:
            problems.append(f"hysteresis is {list(hysteresis)}; wanted two probabilities, the lower one first")
        if passes < 1:
            problems.append(f"passes is {passes}; wanted 1 or more")
        if box_median < 1 or box_median % 2 == 0:
            problems.append(f"box_median is {box_median}; wanted an odd number of slices, 1 for none")
        if not 0 <= propagate_share <= 1:
            problems.append(f"propagate_share is {propagate_share}; wanted 0 to 1")
        values = list(range(1, network.classes + 1)) if label_values is None else [v for v in label_values if v != 0]
        if len(values) != network.classes:
            problems.append(f"label_values are {values} without background; wanted {network.classes}")
        classes = {}
        for name, given in (("longest_run", longest_run), ("largest_component", largest_component)):
            chosen = list(given) if isinstance(given, list | tuple) else (values if truth(name, given) else [])
            if unknown := [value for value in chosen if value not in values]:
                problems.append(f"{name} has {unknown}; wanted true, false, or some of {values}")
            classes[name] = [index for index, value in enumerate(values) if value in chosen]
        if problems:
            raise InputError(problems)
        self.network, self.slice_axis = network, slice_axis
        self.presence_sigma, self.hysteresis, self.use_extents = presence_sigma, tuple(hysteresis), use_extents
        self.run_classes, self.component_classes = classes["longest_run"], classes["largest_component"]
        self.cam_scope, self.cam_sigma, self.box_median = cam_scope, cam_sigma, box_median
        self.first_prompt, self.passes = first_prompt, passes
        self.mask_prompt = network.mask_prompt if mask_prompt is None else mask_prompt
        self.answer_prompt = answer_prompt
        self.propagate = truth("propagate", propagate)
        self.propagate_reach, self.propagate_share = propagate_reach, propagate_share
        self.smooth, self.fill_holes, self.batch_size = smooth, fill_holes, batch_size

    @property
    def settings(self) -> dict[str, Any]:
        """All that an answer depends on beside the network's weights."""
        return {name: value for name, value in vars(self).items() if name not in ("network", "batch_size")}

    @torch.no_grad()
    def __call__(self, embeddings: Tensor, spatial_size: Sequence[int], bits: Tensor | None = None) -> VolumeAnswer:
        """Segment a volume.

        Args:
            embeddings: [n, C, h, w] of all its slices in order, the encoder's padding included.
            spatial_size: H, W, D of the volume, n along the slice axis.
            bits: bool [P, n], on which slices a class is, where that is known: they are the gate. None: the network's.

        Returns:
            a `VolumeAnswer`, on the device of the embeddings.

        Raises:
            InputError: shapes that don't belong together.
        """
        size = self._check(embeddings, spatial_size, "bits", bits, (self.network.classes, len(embeddings)))
        training = self.network.training
        self.network.eval()
        try:
            logits, maps, seen = self._look(embeddings)
            presence = logits.sigmoid()
            gate, runs = self._gate(logits, presence, bits)
            cam = self._cam(maps, seen, gate, size)
            planes = self._planes(cam)
            boxes, masks = self._first_boxes(planes), mask_prompt(planes)
            first, last, asked_boxes = self._segment(embeddings, boxes, masks, gate)
            if self.propagate:
                sure = self._confidence(first, last, presence, gate, bits)
                last = self._hand_on(embeddings, last, asked_boxes, gate, sure)
            confidence = self._confidence(first, last, presence, gate, bits)
        finally:
            self.network.train(training)
        return VolumeAnswer(self._solid(last, gate), presence, gate, boxes, cam, confidence, runs)

    @torch.no_grad()
    def oracle(self, embeddings: Tensor, truth: Tensor) -> VolumeAnswer:
        """Segment a volume with the tight boxes of the truth: a bound for tables, never a result.

        Args:
            embeddings: [n, C, h, w].
            truth: bool [P, H, W, D].

        Raises:
            InputError: shapes that don't belong together.
        """
        wanted = (self.network.classes, *truth.shape[1:])
        self._check(embeddings, truth.shape[1:], "truth", truth, wanted)
        planes = self._planes(truth.as_subclass(Tensor)).bool().to(embeddings.device)  # [n, P, rows, columns]
        gate = planes.flatten(2).any(2).T
        boxes = self._whole(gate)
        boxes[gate] = bounding_boxes(planes.transpose(0, 1)[gate]).to(boxes)
        training = self.network.training
        self.network.eval()
        try:
            logits = self._ask(embeddings, boxes.transpose(0, 1), None, gate.T)
        finally:
            self.network.train(training)
        certain, count = gate.float(), gate.any(1).long()
        confidence = self._confidence(logits, logits, certain, gate, gate)
        cam = truth.as_subclass(Tensor).float().to(embeddings.device)
        return VolumeAnswer(self._solid(logits, gate), certain, gate, boxes, cam, confidence, count)

    # --- steps

    def _check(
        self, embeddings: Tensor, spatial_size: Sequence[int], name: str, given: Tensor | None, wanted: tuple[int, ...]
    ) -> list[int]:
        size = [int(n) for n in spatial_size]
        problems = []
        planes = tuple(n for axis, n in enumerate(size) if axis != self.slice_axis)
        if len(size) != 3 or planes != tuple(self.network.slice_size):
            wanted_planes = tuple(self.network.slice_size)
            problems.append(f"spatial_size is {size}, cut along axis {self.slice_axis}; wanted slices {wanted_planes}")
        elif embeddings.ndim != 4 or len(embeddings) != size[self.slice_axis]:
            found = tuple(embeddings.shape)
            problems.append(f"embeddings are {found}; wanted [{size[self.slice_axis]}, C, h, w], one for each slice")
        if given is not None and tuple(given.shape) != wanted:
            problems.append(f"{name} are {tuple(given.shape)}; wanted {wanted}")
        if problems:
            raise InputError(problems)
        return size

    def _look(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return presence logits [P, n], maps [n, P, h, w], and maps in the network's range [n, P, rows, columns]."""
        sights = []
        for some in embeddings.split(self.batch_size):
            some = some.to(self._device).float()
            if self.network.feedback is None:
                sights.append(self.network.look(some))
            else:  # the second look, without the masks that would follow it
                nothing = torch.zeros((len(some), self.network.classes), dtype=torch.bool, device=self._device)
                sights.append(self.network(some, present=nothing).sight)
        presence, maps, cam = (torch.cat(parts).to(embeddings.device).float() for parts in zip(*sights, strict=True))
        return presence.T, maps, cam

    def _gate(self, logits: Tensor, presence: Tensor, bits: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return on which slices each class is looked for, bool [P, n], and of how many runs that was chosen, [P]."""
        if bits is not None:
            gate = bits.to(logits.device).bool()
            return gate, longest_runs(gate, presence)[1]
        extents = self.network.extents if self.use_extents else None
        return gate_slices(logits, self.presence_sigma, self.hysteresis, self.run_classes, extents)

    def _cam(self, maps: Tensor, seen: Tensor, gate: Tensor, size: list[int]) -> Tensor:
        """Return the activation maps [P, H, W, D] in [0, 1], 0 outside the gate."""
        if self.cam_scope == RUNNING:
            cam = seen.movedim(0, self.slice_axis + 1)
        else:
            cam = cam_volume(maps, gate, size, self.slice_axis, self.cam_scope)
        return smooth_between(cam, gate, self.slice_axis, self.cam_sigma)

    def _first_boxes(self, planes: Tensor) -> Tensor:
        """Return the boxes [P, n, 4] of maps [n, P, rows, columns], regular along the slices; an empty map has none."""
        boxes, found = batch_boxes(planes, **self.network.boxes_by, min_size=2 * self.network.cell)
        return median_boxes(boxes.transpose(0, 1), found.T, self.box_median)

    def _segment(self, embeddings: Tensor, boxes: Tensor, masks: Tensor, gate: Tensor) -> tuple[Tensor, ...]:
        """Return the logits [n, P, rows, columns] of the first pass and of the last, and its boxes [n, P, 4]."""
        boxes, asked = boxes.transpose(0, 1), gate.T  # [n, P, 4], [n, P]
        own_masks = masks if self.mask_prompt else None
        answers = []
        if self.first_prompt in ("cam", "both"):
            answers.append(self._ask(embeddings, boxes, own_masks, asked))
        if self.first_prompt in ("whole", "both"):
            answers.append(self._ask(embeddings, self._whole(asked), None, asked))
        first = last = torch.stack(answers).mean(0)
        for _ in range(1, self.passes):
            boxes = self._answer_boxes(last, boxes)
            last = self._ask(embeddings, boxes, last if self.answer_prompt else None, asked)
        return first, last, boxes

    def _hand_on(self, embeddings: Tensor, logits: Tensor, boxes: Tensor, gate: Tensor, confidence: Tensor) -> Tensor:
        probabilities = logits.sigmoid()
        areas = (probabilities > MASK).flatten(2).sum(2).T  # [P, n]
        return propagate(
            lambda index, *prompts: self._ask(embeddings[index], *prompts),
            logits,
            self._answer_boxes(logits, boxes),
            gate,
            choose_seeds(confidence, gate, areas),
            reach=self.propagate_reach,
            share=self.propagate_share,
            mask_prompt=self.answer_prompt,
        )

    def _ask(self, embeddings: Tensor, boxes: Tensor, masks: Tensor | None, asked: Tensor) -> Tensor:
        """Return logits [n, P, rows, columns] on the device of the embeddings; slices that nothing is asked of cost
        nothing."""
        shape = (len(embeddings), self.network.classes, *self.network.slice_size)
        logits = torch.full(shape, NOT_ASKED, device=embeddings.device)
        wanted = asked.any(1).nonzero()[:, 0]
        for some in wanted.split(self.batch_size) if len(wanted) else ():
            prompts = [None if x is None else x[some].to(self._device) for x in (boxes, masks, asked)]
            answer = self.network.answer(embeddings[some].to(self._device).float(), *prompts)
            logits[some] = answer.float().to(logits.device)
        return logits

    def _answer_boxes(self, logits: Tensor, fallback: Tensor) -> Tensor:
        """Return the boxes [n, P, 4] around the masks, and `fallback` where a mask is empty."""
        rule = {**self.network.boxes_by, "threshold": MASK}
        boxes, found = batch_boxes(logits.sigmoid(), **rule, min_size=3.0)
        return torch.where(found[..., None], boxes, fallback)

    def _confidence(self, first: Tensor, last: Tensor, presence: Tensor, gate: Tensor, bits: Tensor | None) -> Tensor:
        """Return [P, n]: presence x how sure the mask's voxels are x how well first and last answer agree."""
        before, after = first.sigmoid() > MASK, last.sigmoid() > MASK
        inside = last.sigmoid() * after
        sure = inside.flatten(2).sum(2) / after.flatten(2).sum(2).clamp_min(1)  # the mean over the mask; 0 where empty
        both = (before & after).flatten(2).sum(2)
        total = before.flatten(2).sum(2) + after.flatten(2).sum(2)
        stable = 2 * both / total.clamp_min(1)
        known = presence if bits is None else bits.to(presence)
        return torch.where(gate, known * (sure * stable).T, 1 - known)

    def _solid(self, logits: Tensor, gate: Tensor) -> Tensor:
        """Return the probabilities [K, H, W, D] of logits [n, P, rows, columns]."""
        background = torch.zeros_like(logits[:, :1])
        joined = torch.cat([background, logits], 1).softmax(1)  # [n, K, rows, columns]
        probabilities = joined.movedim(0, self.slice_axis + 1)
        inside = on_slices(gate, self.slice_axis)
        return keep_solid(probabilities, inside, self.smooth, self.component_classes, self.fill_holes)

    def _planes(self, volume: Tensor) -> Tensor:
        """[P, H, W, D] -> [n, P, rows, columns]"""
        return volume.movedim(self.slice_axis + 1, 0)

    def _whole(self, asked: Tensor) -> Tensor:
        """Return the box around the whole slice for each entry of `asked` [..., ...], [..., ..., 4]."""
        return self.network.whole_slice.to(asked.device).expand(*asked.shape, 4).clone()

    @property
    def _device(self) -> torch.device:
        return self.network.whole_slice.device
