"""A volume, slice by slice and yet as a volume: presence, activation maps, boxes and masks agree along the slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.imaging.cam import SCOPES, cam_volume
from ..common.imaging.solid import keep_solid
from ..common.launch.words import truth
from ..slice_model.ada_sam import AdaSam
from ..slice_model.map_range import RUNNING, SIGMOID
from .slice_gate import gate_slices, longest_runs, on_slices, smooth_between
from .structure_walk import StructureWalk, Walked

CAM_SCOPES = (*SCOPES, RUNNING)


class VolumeAnswer(NamedTuple):
    """What is known of a volume: P foreground classes, K = P + 1, n slices.

    probabilities: [K, H, W, D], summing to 1 over K.
    presence: [P, n], of each class on each slice, as the network sees it, before smoothing.
    gate: bool [P, n], on which slices each class was looked for.
    boxes: [P, n, 4] of the first prompts: those of the activation maps, or the true ones of `oracle`.
    confidence: [P, n] in [0, 1]: of a mask where the class was looked for, of its absence elsewhere.
    runs: int64 [P], how many runs of slices had the class before the longest was taken.
    """

    probabilities: Tensor
    presence: Tensor
    gate: Tensor
    boxes: Tensor
    confidence: Tensor
    runs: Tensor


class VolumeInference:
    """Segment volumes with a network for slices, by its own prompts.

    Presence is smoothed along the slices and one run of them kept. The activation maps, brought to [0, 1] over the
    volume and smoothed along the slices, give each slice a box; a running median takes out jumps. A first pass answers
    these, further passes the boxes of the own answers, then masks are handed on from the surest slice
    outwards. What comes of it is smoothed and its parts other than the largest go. Each step has its switch.

    Structures are walked through one after the other, so that memory holds the maps of one, and the answers of all.

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
        smooth: of the Gaussian on the probabilities, voxels; 0 for none.
        largest_component: True, False, or the label values to do it for.
        fill_holes: give background that a structure encloses to the structure.
        label_values: of the classes, background included or not, for the two lists; None: 1 to P.
        batch_size: slices asked at once.
        walk: how a structure is led through the slices, see `StructureWalk`.

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
        smooth: float = 1.0,
        largest_component: bool | Sequence[int] = True,
        fill_holes: bool = True,
        label_values: Sequence[int] | None = None,
        batch_size: int = 8,
        **walk: Any,
    ) -> None:
        if cam_scope is None:
            cam_scope = RUNNING if network.cam_range == SIGMOID else "volume"
        problems = []
        if slice_axis not in (0, 1, 2):
            problems.append(f"slice_axis is {slice_axis!r}; wanted 0, 1 or 2")
        if cam_scope not in CAM_SCOPES:
            problems.append(f"cam_scope is {cam_scope!r}; wanted one of {', '.join(CAM_SCOPES)}")
        if len(hysteresis) != 2 or not 0 <= hysteresis[0] <= hysteresis[1] <= 1:
            problems.append(f"hysteresis is {list(hysteresis)}; wanted two probabilities, the lower one first")
        try:
            self.walk = StructureWalk(network, batch_size=batch_size, **walk)
        except InputError as error:
            problems += error.problems
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
        self.cam_scope, self.cam_sigma = cam_scope, cam_sigma
        self.smooth, self.fill_holes, self.batch_size = smooth, fill_holes, batch_size

    @property
    def settings(self) -> dict[str, Any]:
        """All that an answer depends on beside the network's weights."""
        own = {name: value for name, value in vars(self).items() if name not in ("network", "walk", "batch_size")}
        return own | self.walk.settings

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
            logits, maps, patches = self._look(embeddings)
            presence = logits.sigmoid()
            gate, runs = self._gate(logits, presence, bits)
            known = presence if bits is None else bits.to(presence)
            walked = []
            for label in range(self.network.classes):
                cam = self._cam(maps, label, gate[label], size)
                masks = () if patches is None else (patches[:, label],)
                walked.append(self.walk(embeddings, cam, gate[label], known[label], *masks))
        finally:
            self.network.train(training)
        return self._answer(walked, presence, gate, runs)

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
        planes = truth.as_subclass(Tensor).movedim(self.slice_axis + 1, 1).bool().to(embeddings.device)
        training = self.network.training
        self.network.eval()
        try:
            walked = [self.walk.by_truth(embeddings, masks) for masks in planes]  # of [P, n, rows, columns]
        finally:
            self.network.train(training)
        gate = planes.flatten(2).any(2)
        return self._answer(walked, gate.float(), gate, gate.any(1).long())

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

    def _look(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return presence logits [P, n], maps [n, P, h, w], and what the patch map sees where there is one."""
        sights, patches = [], []
        for some in embeddings.split(self.batch_size):
            some = some.to(self.network.whole_slice.device).float()
            if self.network.feedback is None:
                sight = self.network.look(some)
            else:  # the second look, without the masks that would follow it
                nothing = torch.zeros((len(some), self.network.classes), dtype=torch.bool, device=some.device)
                sight = self.network(some, present=nothing).sight
            sights.append((sight.presence, sight.maps))
            if self.network.patch_map is not None:
                patches.append(self.network.patches(some).to(embeddings.device))
        presence, maps = (torch.cat(parts).to(embeddings.device).float() for parts in zip(*sights, strict=True))
        return presence.T, maps, torch.cat(patches) if patches else None

    def _gate(self, logits: Tensor, presence: Tensor, bits: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return on which slices each class is looked for, bool [P, n], and of how many runs that was chosen, [P]."""
        if bits is not None:
            gate = bits.to(logits.device).bool()
            return gate, longest_runs(gate, presence)[1]
        extents = self.network.extents if self.use_extents else None
        return gate_slices(logits, self.presence_sigma, self.hysteresis, self.run_classes, extents)

    def _cam(self, maps: Tensor, label: int, gate: Tensor, size: list[int]) -> Tensor:
        """Return the activation maps [n, rows, columns] of a structure in [0, 1], 0 outside its gate [n]."""
        if self.cam_scope == RUNNING:
            cam = self.network.normalise(maps[:, [label]], [label]).movedim(0, self.slice_axis + 1)
        else:
            cam = cam_volume(maps[:, [label]], gate[None], size, self.slice_axis, self.cam_scope)
        return smooth_between(cam, gate[None], self.slice_axis, self.cam_sigma).movedim(self.slice_axis + 1, 1)[0]

    def _answer(self, walked: list[Walked], presence: Tensor, gate: Tensor, runs: Tensor) -> VolumeAnswer:
        boxes = torch.stack([one.boxes for one in walked])
        confidence = torch.stack([one.confidence for one in walked])
        logits = [walked.pop(0).logits for _ in range(len(walked))]
        return VolumeAnswer(self._solid(logits, gate), presence, gate, boxes, confidence, runs)

    def _solid(self, logits: list[Tensor], gate: Tensor) -> Tensor:
        """Return the probabilities [K, H, W, D] of P logits [n, rows, columns], which are taken off the list."""
        joined = logits[0].new_zeros((len(logits) + 1, *logits[0].shape))  # [K, n, rows, columns]
        for label in range(1, len(joined)):
            joined[label] = logits.pop(0)
        for z in range(joined.shape[1]):
            joined[:, z] = joined[:, z].softmax(0)
        probabilities = joined.movedim(1, self.slice_axis + 1)
        inside = on_slices(gate, self.slice_axis)
        return keep_solid(probabilities, inside, self.smooth, self.component_classes, self.fill_holes)
