"""Pseudo labels from atlases: registered, refined, fused, and in later rounds joined by the network's own opinion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import ignite.distributed as idist
import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from ..costs.pieces import asked_of_others, rehearsal
from ..grid.field_of_view import inside_scan
from ..launch.words import number, optional_number, truth
from ..pseudo_labels.opinions import agreement, agreement_by_class, fuse, fuse_by_similarity, select_by_quality
from ..pseudo_labels.refine import refine_by_intensity
from ..pseudo_labels.store import PseudoLabelBank
from ..pseudo_labels.work import CaseWork, settings_digest
from ..tensors import grey, plain
from .atlas import Atlas
from .bridges import choose_bridges, hand_on, vote
from .choosing.choice import forget_choice
from .finer import FinerScans
from .finer_labels import FinerLabels
from .reached import reaches, tell_reached
from .registered import Direct, RegisteredAtlas


class AtlasLabeller:
    """Hold the atlases, register each to every case, and keep the registrations and pseudo label of a case on disk.

    Beyond the paper, each with a switch: the affine first, instance optimisation, both fused, several atlases, finer
    voxels, bridges, selection by agreement, own predictions in later rounds, intensities at boundaries, a guide.

    Args:
        cohort: has `images`, and `choose_atlases`, see `OneShotCohort`.
        images: sequence of {"case", "image" [C, H, W, D]} on the common grid, in the order of `cohort.images`.
        label_transform: from {"label": path} to {"label": one-hot [K, H, W, D]} on the common grid.
        network: what is learnt; its prediction is an opinion from the second round on.
        registration: the registration network, or None.
        inferer: (image, network) -> log-probabilities.
        folder: where registrations and pseudo labels of a run lie; those found there are used again.
        instance_steps, coarse_steps, smooth_weight: see `Atlas`.
        fuse_network: average the network's propagation with the instance-optimised one; alone where there is no other.
        bridges: number of volumes that hand the atlases' label on to all others (`bridges.py`); 0 for none.
        bridge_steps: steps of instance optimisation from a bridge to another volume, on half the grid.
        confirmation: Dice of the atlases' own label with the bridges' from which on it is kept; else they join it.
            Single registrations err each in its own way, which training averages out. On finer voxels they only judge.
        guided_steps: further steps guided by the prediction (rounds after the first); 0 for none.
        keep, keep_least: share and least number of the cases, of highest agreement, whose labels are learnt from.
        atlas_share: share, below 1, of the steps with an atlas and its true label; it comes once at least.
        min_agreement: Dice with the registration from which on the network's prediction joins a later label.
        refine_intensity: weight of `refine_by_intensity` in labels; 0 for off.
        channel: of the images, that classical registration and intensities go by; None: the mean of all.
        force: go on where the atlases reach nearly no case.
        finer: reads scans on finer voxels, where registrations go on; None: they end on the common grid.
    """

    def __init__(
        self,
        cohort: Any,
        images: Sequence[Mapping[str, Any]],
        label_transform: Callable,
        network: nn.Module,
        registration: nn.Module | None,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        folder: str,
        instance_steps: int = 30,
        coarse_steps: int = 20,
        fuse_network: bool = False,
        bridges: int = 5,
        bridge_steps: int = 10,
        confirmation: float = 0.85,
        guided_steps: int = 0,
        smooth_weight: float = 0.5,
        keep: float = 0.5,
        keep_least: int = 20,
        min_agreement: float = 0.7,
        refine_intensity: float = 1.0,
        device: str | torch.device = "cpu",
        resume: bool = False,
        channel: int | None = None,
        force: bool = False,
        atlas_share: float = 0.0,
        finer: FinerScans | None = None,
    ) -> None:
        self.channel = optional_number("sam_channel", channel, whole=True, least=0)
        self.cohort, self.images, self.label_transform = cohort, images, label_transform
        self.network, self.registration, self.inferer = network, registration, inferer
        self.instance_steps, self.coarse_steps, self.guided_steps = instance_steps, coarse_steps, guided_steps
        self.smooth_weight, self.fuse_network = smooth_weight, truth("fuse_network", fuse_network)
        self.bridges, self.bridge_steps, self.confirmation = bridges, bridge_steps, confirmation
        self.keep, self.keep_least, self.atlas_share = keep, keep_least, number("atlas_share", atlas_share, least=0)
        self.min_agreement, self.refine_intensity = min_agreement, refine_intensity
        self.device, self.resume, self.force = torch.device(device), resume, truth("force", force)
        self.root, self.finer_scans, self.round = Path(folder).expanduser(), finer, 0
        self.selected: list[str] = []

    @cached_property
    def registered(self) -> list[RegisteredAtlas]:
        """The labelled scans with what is kept of them; theirs are the only training labels that are ever opened."""
        order, found = [item["case"] for item in self.cohort.images], []
        for case in self.cohort.choose_atlases(self.images, self.root, self.channel):
            seen = self.images[order.index(case["case"])]["image"]
            image, label = plain(seen).float(), plain(self.label_transform({"label": case["label"]})["label"]).float()
            atlas = Atlas(
                case["case"], image[None].to(self.device), label[None].to(self.device), self.channel,
                self.registration, self.instance_steps, self.coarse_steps, self.smooth_weight,
            )  # fmt: skip
            finer = None if self.finer_scans is None else self.finer_scans.atlas(atlas, seen, case["label"])
            work = self._work_of(atlas)
            found.append(RegisteredAtlas(atlas, work, self.fuse_network, self.guided_steps, finer))
        return found

    @property
    def atlases(self) -> list[Atlas]:
        """The labelled scans."""
        return [one.atlas for one in self.registered]

    @property
    def atlas(self) -> Atlas:
        """The first of them."""
        return self.atlases[0]

    @cached_property
    def finer(self) -> FinerLabels | None:
        """What registrations on finer voxels say; None where none go on there: a guide goes by the common grid."""
        scans = self.finer_scans
        if scans is None or scans.grid is None or not self.instance_steps or self.guided_steps:
            return None
        return FinerLabels(scans, self.registered, self.work, self.refine_intensity)

    @cached_property
    def present(self) -> list[int]:
        """Classes, but the background, that some atlas has."""
        seen = torch.stack([atlas.label[0, 1:].flatten(1).amax(1) for atlas in self.atlases]).amax(0) > 0.5
        return [int(k) + 1 for k in seen.nonzero()[:, 0]]

    @property
    def labelled(self) -> set[str]:
        """Ids of the atlases."""
        return {atlas.case for atlas in self.atlases}

    @cached_property
    def work(self) -> CaseWork:
        """What is kept of these atlases together on this grid: of a single one, with its registrations."""
        if len(self.atlases) == 1:
            return self._work_of(self.atlas)
        names = settings_digest(sorted(self.labelled), self.cohort.grid.as_dict())
        return CaseWork(self.root, f"{len(self.atlases)}-atlases-{names}", self.resume)

    def _work_of(self, atlas: Atlas) -> CaseWork:
        """Return what is kept of one atlas: what was registered from another one or on another grid lies elsewhere."""
        return CaseWork(self.root, f"{atlas.case}-{settings_digest(self.cohort.grid.as_dict())}", self.resume)

    @property
    def handed(self) -> PseudoLabelBank:
        """The mean of what the bridges hand on to each case."""
        return self.work.bank("bridges")

    @property
    def labels(self) -> PseudoLabelBank:
        """The pseudo labels of the present round."""
        return self.work.bank(f"round_{max(self.round, 1)}")

    @property
    def unlabeled(self) -> set[str]:
        """Ids of the cases that they are registered to: all others."""
        return {item["case"] for item in self.cohort.images} - self.labelled

    def _unlabeled(self) -> Iterator[Mapping[str, Any]]:
        return (item for item in self.images if item["case"] in self.unlabeled)

    def view(self, item: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the image of a case, [1, C, H, W, D], and 1 where it was scanned, 0 where the grid goes on beyond."""
        return plain(item["image"]).float()[None].to(self.device), self.inside(item["image"])

    def grey(self, image: Tensor) -> Tensor:
        """Return the image [1, 1, H, W, D] that registration sees of one, [1, C, H, W, D]."""
        return grey(image, self.channel)

    def inside(self, image: Tensor) -> Tensor:
        """Return 1 where an image [C, H, W, D] was scanned, 0 where the grid goes on beyond, [1, 1, H, W, D]."""
        return inside_scan(image)[None].float().to(self.device)

    def choose(self) -> None:
        """Choose the atlases; a choice on disk from an interrupted run is kept."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.resume and idist.get_rank() == 0:
            forget_choice(self.root)
        idist.barrier()
        self.registered  # noqa: B018

    def align(self) -> None:
        """Find the affine of every unlabelled case; those on disk from an interrupted run are kept."""
        self.work.remove_stale()
        for one in self.registered:
            one.align(self._unlabeled(), self.view)

    def aligned(self, case: str) -> tuple[Tensor, Tensor]:
        """Return image [C, H, W, D] and label [K, H, W, D] of an atlas under its affine to a case; they take turns."""
        for atlas in self.atlases:
            if atlas.case == case:
                return atlas.aligned(torch.eye(3, 4, device=self.device)[None])
        place = [item["case"] for item in self.cohort.images].index(case)
        return self.registered[place % len(self.registered)].aligned(case)

    def register(self) -> None:
        """Register the atlases to every unlabelled case, by network and by instance optimisation, and make round 1."""
        for one in self.registered:
            one.register(self._unlabeled(), self.view)
        if self.finer is not None:
            self.finer.make(self._unlabeled())
        self.hand_on()
        self.label(1)
        self.tell()

    def direct(self, case: str, fixed: Tensor, inside: Tensor, own: Tensor | None = None) -> Direct:
        """Return what the registrations of the atlases say of a case.

        Args:
            own: the network's opinion [K, H, W, D], which guides the registration where there are steps for that.
        """
        labels, folding = zip(*(one.labels(case, fixed, inside, own) for one in self.registered), strict=True)
        each = [fuse(found) for found in labels]
        similarity = max(one.similarity(case) for one in self.registered)
        opinions = each if len(each) > 1 else labels[0]
        if self.finer is not None:
            label, folded = self.finer.on_common(case)
            return Direct(label.to(self.device), opinions, similarity, folded)
        maps = [one.similarity_map(case, fixed, inside) for one in self.registered] if len(each) > 1 else []
        return Direct(fuse_by_similarity(each, maps), opinions, similarity, max(folding))

    def hand_on(self) -> None:
        """Let the bridges vote on every other case; `handed` keeps the mean of their labels and how far they agree."""
        bridges = self.bridge_volumes()

        def hand_on_to(item: Mapping[str, Any]) -> None:
            case, (fixed, inside) = item["case"], self.view(item)
            grey, steps = self.grey(fixed), self.bridge_steps
            if said := [hand_on(grey, image, own, steps, inside) for name, image, own in bridges if name != case]:
                agreed = vote([self.direct(case, fixed, inside).label, *said], self.present)[1]
                self.handed.save(case, {"label": fuse(said).half()}, voters=len(said), by_label=agreed)

        cases, title = list(self._unlabeled()), "bridges" if bridges else None
        asked = asked_of_others(cases, self.bridges) if bridges else 1.0
        self.work.do_each(cases, self.handed, hand_on_to, title, None, self.device, asked)

    def bridge_volumes(self) -> list[tuple[str, Tensor, Tensor]]:
        """Return (case, image [1, 1, H, W, D], label [1, K, H, W, D] from the atlases) of each bridge."""
        if not self.bridges:
            return []
        items = {item["case"]: item for item in self._unlabeled()}
        similarity = {case: max(one.similarity(case) for one in self.registered) for case in items}
        chosen = []
        for case in choose_bridges(similarity, self.bridges):
            fixed, inside = self.view(items[case])
            chosen.append((case, self.grey(fixed), self.direct(case, fixed, inside).label[None]))
        return chosen

    def predict(self, image: Tensor) -> Tensor:
        """Return the network's probabilities [K, H, W, D] of an image [1, C, H, W, D]."""
        with eval_mode(self.network):
            return self.inferer(image, self.network).exp()[0]

    def label(self, number: int) -> None:
        """Make the pseudo labels of a round (from 1) and select those to learn from; finished ones on disk are kept.

        A label is judged by how far independent opinions on it agree: the network's and the registrations', else the
        registrations' among each other; where there is a single one, by the similarity that it reached.
        """
        self.round = number
        bank = self.labels
        if idist.get_rank() == 0:
            for a in self.atlases:
                bank.save(a.case, {"label": a.label[0].half()}, quality=1.0, folding_percent=0.0)
        for item in self.work.each(self._unlabeled(), bank, f"pseudo labels, round {number}"):
            label, judgement = self._label(item, self.predict(self.view(item)[0]) if number > 1 else None)
            bank.save(item["case"], {"label": label.half()}, **judgement)
        self.selected = select_by_quality(self.quality(), self.keep, self.keep_least)
        if self.by_agreement:  # the best one stays, however bad
            judged = self.judged()
            self.selected = [case for case in self.selected if case == self.selected[0] or reaches(judged[case])]

    def _label(self, item: Mapping[str, Any], own: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        """Return the pseudo label [K, H, W, D] of a case, and what judges it; `own` is the network's opinion."""
        case, (fixed, inside) = item["case"], self.view(item)
        own = None if own is None else own * inside[0]
        direct = self.direct(case, fixed, inside, own)
        fused, opinions = direct.label, direct.opinions
        by_label = vote(opinions, self.present)[1] if len(opinions) > 1 else {}
        sharpen = self.refine_intensity if self.finer is None else 0.0  # there it has been sharpened
        if self.bridges and case in self.handed:
            judged, handed = self.handed.judgement(case), self.handed.load(case)["label"].to(self.device)
            by_label = judged["by_label"]
            if self.finer is None and agreement(fused, handed, self.present) < self.confirmation:
                mixed = torch.lerp(fused, handed, judged["voters"] / (judged["voters"] + len(opinions)))
                fused = fuse([mixed])
                sharpen = 0.0  # a vote's soft rim is wide, and intensities make it wider
        if own is not None:
            by_label = agreement_by_class(own, fused, self.present)
        quality = mean(by_label.values()) if by_label else direct.similarity
        # a network that is far from the registration yet would only blur what it is to learn from
        if own is not None and quality >= self.min_agreement:
            fused = fuse([fused, own])
        if sharpen:
            fused = refine_by_intensity(self.grey(fixed)[0], fused, sharpen)
        return fused, {"quality": quality, "folding_percent": direct.folding, "by_label": by_label}

    def finest(self, item: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the pseudo label [K, h, w, d] of a case on the finest voxels that have one, and its image on these.

        On finer voxels that is what the registrations say, in later rounds, too.
        """
        if self.finer is None:
            return self.labels.load(item["case"])["label"], item["image"]
        label, scan = self.finer.on_finer(item)
        return label.cpu(), scan.image

    def quality(self) -> dict[str, float]:
        """Return case -> quality of its pseudo label of the present round."""
        bank = self.labels
        return {case: bank.judgement(case)["quality"] for case in self.unlabeled}

    def judged(self) -> dict[str, dict[str, float]]:
        """Return case -> class as text -> how far opinions on its pseudo label agree, Dice."""
        return {case: self.labels.judgement(case).get("by_label", {}) for case in self.unlabeled}

    @property
    def by_agreement(self) -> bool:
        """Whether a label is judged by opinions that agree, and not by a similarity, which says little of it."""
        return self.bridges > 0 or len(self.atlases) > 1 or self.round > 1

    def tell(self) -> None:
        """Say how many cases the atlases reached; nearly none ends a run, unless forced, but no dry one of a few."""
        if self.by_agreement:
            names, atlases = dict(enumerate(self.cohort.labels.values())), [atlas.case for atlas in self.atlases]
            tell_reached(self.judged(), names, atlases, self.force or rehearsal() is not None)

    def training_indices(self) -> list[int]:
        """Return the positions, in the data set, of the atlases, as often as is their share, and the selected cases."""
        order = list(enumerate(item["case"] for item in self.cohort.images))
        atlases, others = ([i for i, case in order if case in known] for known in (self.labelled, self.selected))
        times = self.atlas_share * len(others) / (1 - self.atlas_share) / len(atlases)
        return sorted([*atlases * max(1, round(times)), *others])
