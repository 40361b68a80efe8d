"""Pseudo labels of a trained ADA-SAM: its own masks where nobody drew one, the true masks where somebody did."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ignite.distributed as idist
import torch
from torch import Tensor

from .common.errors import InputError
from .common.grid.field_of_view import inside_scan
from .common.launch.words import truth
from .common.pseudo_labels.grids import on_grid
from .common.pseudo_labels.store import PseudoLabelBank
from .common.pseudo_labels.work import CaseWork, settings_digest
from .common.slices.counted import count_slice
from .common.slices.presence_volume import slice_bits
from .common.tensors import plain
from .learning.slice_unet import SliceUNetTeacher
from .slice_model.ada_sam import AdaSam
from .volume.quality import check, measure
from .volume.teacher_shares import count_overlaps, fuse_by_shares, label_shares
from .volume.volume_inference import VolumeAnswer, VolumeInference
from .volume.within_scan import scanned_slices, segment_scan

CONFIDENCE = "confidence"


class Asked(NamedTuple):
    """What is known of a case before its label is made, on the grid of SAM's slices.

    answer: ADA-SAM's. other: the second teacher's probabilities [K, H, W, D], 0 beyond the scan; None without one.
    drawn: class indices [H, W, D] of the masks, -1 where there is none. inside: bool [1, H, W, D], where the scan is.
    bits: bool [P, n], on which slices each class is.
    """

    answer: VolumeAnswer
    other: Tensor | None
    drawn: Tensor
    inside: Tensor
    bits: Tensor


class PseudoLabeller:
    """Segment all training volumes with the trained network and its own prompts, and keep what a segmenter learns from.

    The known bits are the gate, so that slices without a class are exact background. A second teacher may have its
    share in the answer, label by label where it is to be found (`label_shares`). On the slices that carry a mask the
    mask takes the place of both. All of that is on the grid of SAM's slices; a label is kept on the common grid, which
    is coarser, for the first level, and on its own for the second.

    Args:
        cohort: has `labels` (value -> name), `grid`, `slice_grid`, `slice_axis` and `label_slices`.
        images: items with `case` and `image` [C, H, W, D] on the common grid.
        slices: the same cases in the same order on the grid of SAM's slices, with `image`, `presence` [P, H, W, D],
            `label` [1, H, W, D] (class index) and `annotated` [1, H, W, D], 1 where the label is true.
        features: `embedding(case)` -> [n, C, h, w] of its slices.
        network: trained.
        inference: of that network.
        folder: of the labels on disk.
        second: has `share`, `by_label` and `probabilities`, see `SliceUNetTeacher`; None, or a share of 0, for the
            network alone.
        mask_weight: of voxels with a true mask in what learns from the labels.
        weight: of the others: "confidence" for that of their slice (the mean over its classes, 1 on a slice without
            any), or a number for all.
        resume: keep what an interrupted run of the same settings and weights has left.

    Raises:
        InputError: a weight that is none.
    """

    def __init__(
        self,
        cohort: Any,
        images: Sequence[Mapping[str, Any]],
        slices: Sequence[Mapping[str, Any]],
        features: Any,
        network: AdaSam,
        inference: VolumeInference,
        folder: str,
        second: SliceUNetTeacher | None = None,
        mask_weight: float = 1.0,
        weight: str | float = CONFIDENCE,
        resume: bool = False,
    ) -> None:
        problems = [
            f"{name} is {given!r}; wanted a number of 0 or more{also}"
            for name, given, also in (("mask_weight", mask_weight, ""), ("weight", weight, f", or {CONFIDENCE!r}"))
            if not (name == "weight" and given == CONFIDENCE) and not _is_weight(given)
        ]
        if problems:
            raise InputError(problems)
        self.cohort, self.images, self.slices, self.features = cohort, images, slices, features
        self.network, self.inference = network, inference
        self.second = second if second is not None and second.share > 0 else None
        self.mask_weight, self.resume = float(mask_weight), truth("resume", resume)
        self.weight = weight if weight == CONFIDENCE else float(weight)
        self.names = {value: name for value, name in cohort.labels.items() if value != 0}
        self._folder = folder
        self.shares = torch.full((len(self.names) + 1,), self.second.share if self.second else 0.0)
        self._bank: PseudoLabelBank | None = None
        self._own: PseudoLabelBank

    @property
    def cases(self) -> list[str]:
        return [item["case"] for item in self.images]

    def training_indices(self) -> list[int]:
        """Return the positions of the cases to learn from: all."""
        return list(range(len(self.images)))

    def run(self) -> PseudoLabelBank:
        """Make the label of every case, several processes their shares, and return the bank.

        A case has `target` [K, H, W, D] and `weight` [1, H, W, D], both half precision.
        """
        work = CaseWork(self._folder, self._identity(), self.resume)
        work.remove_stale(of_all_settings=True)
        self._share_labels(work)
        bank, own = work.bank(), work.bank("slices")
        for item in work.each(self.images, bank, "pseudo labels"):
            seen = self.seen(item["case"])
            tensors, judged = self.label(seen)
            if self.cohort.grid.fine is not None:
                own.save(item["case"], {"target": tensors["target"].half()})
            tensors = on_grid(tensors, seen["image"], item["image"])
            bank.save(item["case"], {name: value.half() for name, value in tensors.items()}, **judged)
        self._bank, self._own = bank, own
        return bank

    def _share_labels(self, work: CaseWork) -> None:
        """Find the second teacher's share in each label, by the masks of all cases."""
        if self.second is None or not self.second.by_label:
            return
        bank = work.bank("masks")
        drawn = [item for item in self.images if item["case"] in self.cohort.label_slices]
        for item in work.each(drawn, bank, "teachers on the masks"):
            asked = self._ask(self.seen(item["case"]))
            answers = (asked.answer.probabilities, asked.other)
            found = (count_overlaps(one.argmax(0), asked.drawn, len(self.names)) for one in answers)
            bank.save(item["case"], dict(zip(("first", "second"), found, strict=True)))
        counts = [bank.load(item["case"]) for item in drawn]
        both = (torch.stack([one[name] for one in counts]).sum(0) for name in ("first", "second"))
        self.shares = label_shares(self.second.share, *both)
        if idist.get_rank() == 0:
            named = zip(self.names.values(), self.shares[1:].tolist(), strict=True)
            said = ", ".join(f"{name} {share:.2f}" for name, share in named)
            print(f"the 2D UNet's share in pseudo labels, by how well both repeat the masks: {said}", flush=True)

    def seen(self, case: str) -> Mapping[str, Any]:
        """Return a case on the grid of SAM's slices."""
        return self.slices[self.cases.index(case)]

    def on_slices(self, case: str) -> tuple[Tensor, Tensor]:
        """Return the `target` [K, H, W, D] of a case on the grid of SAM's slices, and the image there."""
        self._made()
        return self._own.load(case)["target"], self.seen(case)["image"]

    def label(self, item: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return {"target", "weight"} of one of `slices`, both 0 beyond the scan, and what can be said of them."""
        asked = self._ask(item)
        target, drawn, inside = asked.answer.probabilities, asked.drawn, asked.inside  # target is written over
        own, judged = target.argmax(0), {}
        if asked.other is not None:
            judged["teachers"] = self._by_label(self._dices(own, asked.other.argmax(0)))
            target = fuse_by_shares(target, asked.other, self.shares)
        for index, one in enumerate(target):  # where a mask is drawn, that
            one.copy_(torch.where(drawn >= 0, (drawn == index).to(one), one))
        target *= inside
        trust = self._trust(asked.answer, tuple(inside.shape[1:]))
        weight = torch.where(drawn >= 0, self.mask_weight, trust) * inside
        return {"target": target, "weight": weight}, judged | self._judge(asked, own, target.argmax(0), item["image"])

    def _ask(self, item: Mapping[str, Any]) -> Asked:
        """Ask both teachers about one of `slices`."""
        axis, inside = self.cohort.slice_axis, inside_scan(item["image"]).cpu()
        bits = slice_bits(plain(item["presence"]), axis)
        answer = segment_scan(self.inference, self.features.embedding(item["case"]), item["image"], bits)
        answer = VolumeAnswer(*(tensor.cpu() for tensor in answer))
        other = None
        if self.second is not None:
            other = self.second.probabilities(item["case"], answer.gate, axis).mul_(inside)
        drawn = (plain(item["annotated"])[0].cpu() > 0.5) & inside[0]
        return Asked(answer, other, plain(item["label"])[0].long().cpu().where(drawn, -1), inside, bits.cpu())

    def load(self, case: str) -> dict[str, Tensor]:
        """Return `target` [K, H, W, D] and `weight` [1, H, W, D] of a case, float32."""
        return self._made().load(case)

    def judgement(self, case: str) -> dict[str, Any]:
        """Return what `run` noted of a case.

        Each of the following is {label value as text: .}: "volume_ml" of the pseudo label; "area_mm2" of its slices;
        "confidence", the mean over the slices of the class; "agreement", the Dice of the network's own answer with the
        true masks on the slices that have one, which it has learnt from, None where there is none; "teachers", where
        there are two, the Dice of their answers; "presence", the
        share of slices on which the network itself would have seen what the bits say; and what `check` says of the own
        answer. Slices are those of the grid that the scan has, counted from its first one; "jump_slices" are "jumps" as
        the scan's file counts them, from 1. "annotated" is the number of slices with a mask.
        """
        return self._made().judgement(case)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a case for a report: how many of its slices have masks, and its worst numbers."""
        rows = []
        for case in self.cases:
            judged = self.judgement(case)
            agreement = [dice for dice in judged["agreement"].values() if dice is not None]
            between = [dice for dice in judged.get("teachers", {}).values() if dice is not None]
            rows.append(
                {
                    "case": case,
                    "slices with masks": judged["annotated"],
                    **{f"{self.names[int(v)]} (ml)": ml for v, ml in judged["volume_ml"].items()},
                    "lowest confidence": min(judged["confidence"].values()),
                    "lowest agreement with masks": min(agreement) if agreement else "-",
                    **({"lowest agreement of teachers": min(between)} if between else {}),
                    "lowest presence accuracy": min(judged["presence"].values()),
                }
            )
        return rows

    # --- steps

    def _trust(self, answer: VolumeAnswer, size: tuple[int, ...]) -> Tensor:
        """Return the weight [1, H, W, D] of voxels that nobody drew."""
        if self.weight != CONFIDENCE:
            return torch.full((1, *size), float(self.weight))
        count = answer.gate.sum(0)
        mean = (answer.confidence * answer.gate).sum(0) / count.clamp_min(1)
        around = [1, 1, 1, 1]
        around[self.cohort.slice_axis + 1] = len(count)
        return torch.where(count > 0, mean, 1.0).view(around).expand(1, *size)

    def _judge(self, asked: Asked, own: Tensor, target: Tensor, image: Any) -> dict[str, Any]:
        """Judge the own answer and what is taught, class indices [H, W, D], on the voxels of an image."""
        axis, pixdim, answer = self.cohort.slice_axis, self.cohort.slice_grid.pixdim, asked.answer
        there = scanned_slices(asked.inside[0], axis).nonzero()[:, 0]  # the scan's slices
        own, target, drawn = (maps.index_select(axis, there) for maps in (own, target, asked.drawn))
        presence, gate, confidence, boxes, bits = (
            rows.index_select(1, there)
            for rows in (answer.presence, answer.gate, answer.confidence, answer.boxes, asked.bits)
        )
        found = self._each(own)
        by_label: dict[str, list[Any]] = {
            "confidence": [
                float(sure[there].mean()) if bool(there.any()) else 1.0
                for sure, there in zip(confidence, gate, strict=True)
            ],
            "agreement": self._dices(own.where(drawn >= 0, 0), drawn),
            "presence": ((presence > 0.5) == bits).float().mean(1).tolist(),
        }
        checked = check(found, boxes, gate, answer.runs.tolist(), self.names, axis)
        return {
            **measure(self._each(target), list(self.names), pixdim, axis),
            **{name: self._by_label(row) for name, row in by_label.items()},
            **checked,
            "jump_slices": {
                value: [stored_slice(image, axis, int(there[jump])) for jump in jumps]
                for value, jumps in checked["jumps"].items()
            },
            "annotated": int((drawn >= 0).movedim(axis, 0).flatten(1).any(1).sum()),
        }

    def _each(self, classes: Tensor) -> Tensor:
        """Class indices [H, W, D] -> bool [P, H, W, D]"""
        return torch.stack([classes == label for label in range(1, len(self.names) + 1)])

    def _dices(self, first: Tensor, second: Tensor) -> list[float | None]:
        """Return the Dice of each of P classes, of class indices [H, W, D]; None where both have none of it."""
        return [_dice(first == label, second == label) for label in range(1, len(self.names) + 1)]

    def _by_label(self, row: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(map(str, self.names), row, strict=True))

    def _identity(self) -> str:
        """Name what the labels depend on, so that those of other weights or settings aren't gone on with."""
        settings: list[Any] = [(self.cohort.grid.as_dict(), self.mask_weight, self.weight)]
        settings.append(self.cohort.slice_grid.as_dict())
        settings += [sorted(self.cohort.label_slices.items()), sorted(self.inference.settings.items())]
        tensors = self.network.state_dict()
        learnt = [tensors[name] for name in sorted(self.network.adapted_tensors())]
        if self.second is not None:
            settings += [self.second.share, self.second.by_label]
            learnt += [tensor for _, tensor in sorted(self.second.network.state_dict().items())]
        return settings_digest(*settings, *learnt)

    def _made(self) -> PseudoLabelBank:
        if self._bank is None:
            raise RuntimeError("pseudo labels: nothing was made yet, run comes first")
        return self._bank


def stored_slice(image: Any, axis: int, index: int) -> int:
    """Return which slice of its file a slice of an image on the grid is, from 1; of the grid where no file is known."""
    meta = getattr(image, "meta", {})
    if "original_affine" not in meta or "spatial_shape" not in meta:
        return index + 1
    size = [int(n) for n in meta["spatial_shape"]]
    return count_slice(image.affine, image.shape[1:], axis, index, meta["original_affine"], size).number


def _is_weight(given: Any) -> bool:
    try:
        return 0 <= float(given) < math.inf
    except (TypeError, ValueError):
        return False


def _dice(found: Tensor, true: Tensor) -> float | None:
    """Return the Dice of two masks; None where both are empty."""
    total = int(found.sum()) + int(true.sum())
    return 2 * int((found & true).sum()) / total if total else None
