"""Pseudo labels from one atlas: registered, refined, fused, and in later rounds joined by the network's own opinion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from .cohort import OneShotCohort
from .common.grid.field_of_view import inside_scan
from .common.imaging.registration import (
    LocalNCCLoss,
    folding_percent,
    integrate,
    register_affine,
    register_velocity,
    total_ddf,
    warp,
    warp_known,
)
from .common.launch.words import optional_number, truth
from .common.processes import own_share, together
from .common.pseudo_labels.opinions import agreement, fuse, select_by_quality
from .common.pseudo_labels.refine import refine_by_intensity
from .common.pseudo_labels.store import PseudoLabelBank
from .common.pseudo_labels.work import CaseWork, settings_digest
from .common.tensors import grey, known_share, plain, unless_all
from .labelling.bridges import choose_bridges, hand_on, vote


class AtlasLabeller:
    """Hold the atlas, register it to every case, and keep each case's registrations and pseudo label on disk.

    What goes beyond the paper, each with a switch: the affine first, instance optimisation beside the network
    (`instance_steps`), fusing both, labels handed on by other volumes (`bridges`), selection by agreement (`keep`),
    own predictions in later rounds, re-estimation of the boundary from intensities (`refine_intensity`), registration
    guided by the segmentation (`guided_steps`).

    Args:
        cohort: knows the atlas.
        images: sequence of {"case", "image" [C, H, W, D]} on the common grid, in the order of `cohort.images`.
        label_transform: from {"label": path} to {"label": one-hot [K, H, W, D]} on the common grid.
        network: what is learnt; its prediction is an opinion from the second round on.
        registration: the registration network, or None.
        inferer: (image, network) -> log-probabilities.
        folder: where registrations and pseudo labels of a run lie; those found there are used again.
        instance_steps: steps of instance optimisation on the full grid; 0 for no instance optimisation.
        coarse_steps: its steps on half the grid before those.
        fuse_network: average the network's propagation with the instance-optimised one; alone where there is no other.
        bridges: number of volumes that hand the atlas's label on to all others (`bridges.py`); 0 for none.
        bridge_steps: steps of instance optimisation from a bridge to another volume, on half the grid.
        confirmation: Dice of the atlas's own label with the bridges' from which on it is kept as it is; else they join
            it. Labels from one registration each err in their own ways, which training averages out; a vote errs in the
            same way everywhere, so it only pays where the registration is bad.
        guided_steps: further steps guided by the prediction (rounds after the first); 0 for none.
        smooth_weight: of the velocity's smoothness.
        keep: share of the cases, of the highest agreement, whose labels are learnt from.
        min_agreement: Dice with the registration from which on the network's prediction joins a later label.
        refine_intensity: weight of `refine_by_intensity` in labels; 0 for off.
        channel: of the images, that classical registration and intensities go by; None: the mean of all.
    """

    def __init__(
        self,
        cohort: OneShotCohort,
        images: Sequence[Mapping[str, Any]],
        label_transform: Callable,
        network: nn.Module,
        registration: nn.Module | None,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        folder: str,
        instance_steps: int = 30,
        coarse_steps: int = 80,
        fuse_network: bool = False,
        bridges: int = 5,
        bridge_steps: int = 60,
        confirmation: float = 0.85,
        guided_steps: int = 0,
        smooth_weight: float = 0.5,
        keep: float = 0.5,
        min_agreement: float = 0.7,
        refine_intensity: float = 1.0,
        device: str | torch.device = "cpu",
        resume: bool = False,
        channel: int | None = None,
    ) -> None:
        self.channel = optional_number("sam_channel", channel, whole=True, least=0)
        self.cohort, self.images, self.label_transform = cohort, images, label_transform
        self.network, self.registration, self.inferer = network, registration, inferer
        self.instance_steps, self.coarse_steps, self.guided_steps = instance_steps, coarse_steps, guided_steps
        self.smooth_weight, self.fuse_network = smooth_weight, truth("fuse_network", fuse_network)
        self.bridges, self.bridge_steps, self.confirmation = bridges, bridge_steps, confirmation
        self.keep, self.min_agreement, self.refine_intensity = keep, min_agreement, refine_intensity
        self.device, self.resume = torch.device(device), resume
        self.work = CaseWork(folder, "", resume)  # what it depends on is known with the atlas, see `align`
        self.labels = self.work.bank("round_1")
        self.round = 0
        self.selected: list[str] = []
        self._atlas: dict[str, Any] | None = None

    @property
    def atlas(self) -> dict[str, Any]:
        """{"case", "image" [1, C, H, W, D], "label" [1, K, H, W, D], "known" [1, 1, H, W, D] or None}; the only
        training label that is ever opened. Where "known" is 0 the grid goes on beyond the scan; None: nowhere."""
        if self._atlas is None:
            case = self.cohort.choose_atlas(self.images)
            label = plain(self.label_transform({"label": case["label"]})["label"]).float()
            index = [item["case"] for item in self.cohort.images].index(case["case"])
            image = plain(self.images[index]["image"]).float()
            self._atlas = {
                "case": case["case"],
                "image": image[None].to(self.device),
                "label": label[None].to(self.device),
                "known": unless_all(known_share(label[None].to(self.device))),
            }
        return self._atlas

    @property
    def folder(self) -> Path:
        """Where what is registered from this atlas lies."""
        return self.work.folder

    @property
    def registrations(self) -> PseudoLabelBank:
        """The affine and the velocities of each case."""
        return self.work.bank("registration")

    @property
    def handed(self) -> PseudoLabelBank:
        """The mean of what the bridges hand on to each case."""
        return self.work.bank("bridges")

    def _unlabeled(self) -> Iterator[Mapping[str, Any]]:
        return (item for item in self.images if item["case"] != self.atlas["case"])

    def _fixed(self, item: Mapping[str, Any]) -> Tensor:
        """Return the image of a case as networks take it, [1, C, H, W, D]."""
        return plain(item["image"]).float()[None].to(self.device)

    def grey(self, image: Tensor) -> Tensor:
        """Return the image [1, 1, H, W, D] that classical registration sees of one, [1, C, H, W, D]."""
        return grey(image, self.channel)

    def inside(self, image: Tensor) -> Tensor:
        """Return 1 where a case's image [C, H, W, D] was scanned, 0 where the grid goes on beyond, [1, 1, H, W, D]."""
        return inside_scan(image)[None].float().to(self.device)

    def align(self) -> None:
        """Find the affine of every unlabelled case; those on disk from an interrupted run are kept."""
        # what was registered from another atlas or grid must not be gone on with
        identity = f"{self.atlas['case']}-{settings_digest(self.cohort.grid.as_dict())}"
        self.work = CaseWork(self.work.root, identity, self.resume)
        self.work.remove_stale()
        for item in self.work.each(self._unlabeled(), self.registrations):
            affine = self.find_affine(self._fixed(item), self.inside(item["image"]))[0]
            self.registrations.save(item["case"], {"affine": affine})

    def find_affine(self, fixed: Tensor, inside: Tensor) -> Tensor:
        """Return the affine [1, 3, 4] of the atlas to an image [1, C, H, W, D], of which `inside` was scanned."""
        known = {"fixed_known": unless_all(inside), "moving_known": self.atlas["known"]}
        return register_affine(self.grey(fixed), self.grey(self.atlas["image"]), **known)

    def affine(self, case: str) -> Tensor:
        """Return the affine [1, 3, 4] of the atlas to a case."""
        if case == self.atlas["case"]:
            return torch.eye(3, 4, device=self.device)[None]
        return self.registrations.load(case)["affine"][None].to(self.device)

    def velocity(self, case: str | None) -> Tensor | None:
        """Return the velocity [3, h, w, d] that labels of a case go by; None for the atlas, or for no case."""
        if case is None or case == self.atlas["case"]:
            return None
        return self._trusted(self.registrations.load(case)).to(self.device)

    def aligned(self, case: str) -> tuple[Tensor, Tensor]:
        """Return atlas image [C, H, W, D] and label [K, H, W, D] under the affine to a case."""
        ddf = total_ddf(self.affine(case), None, tuple(self.atlas["image"].shape[2:]))
        both = warp(torch.cat([self.atlas["image"], self.atlas["label"]], dim=1), ddf)[0]
        channels = self.atlas["image"].shape[1]
        return both[:channels], both[channels:]

    def register(self) -> None:
        """Register the atlas to every unlabelled case, by network and by instance optimisation, and make round 1."""
        for item in together(own_share(self._unlabeled())):
            case, fixed, inside = item["case"], self._fixed(item), self.inside(item["image"])
            known = self.registrations.load(case)
            if not (self.resume and "similarity" in self.registrations.judgement(case)):
                affine = known["affine"][None].to(self.device)
                found = self.velocities(fixed, affine, inside)
                similarity = self._similarity(fixed, affine, self._trusted(found), inside)
                self.registrations.save(case, {**known, **found}, similarity=similarity)
        self.hand_on()
        self.label(1)

    def hand_on(self) -> None:
        """Let the bridges vote on every other case; `handed` keeps the mean of their labels and how far they agree."""
        bridges = self.bridge_volumes()
        for item in self.work.each(self._unlabeled(), self.handed):
            case, fixed, inside = item["case"], self._fixed(item), self.inside(item["image"])
            others = [bridge for bridge in bridges if bridge[0] != case]
            if not others:
                continue
            handed = [
                hand_on(self.grey(fixed), image, label, self.bridge_steps, self.smooth_weight, inside)
                for _, image, label in others
            ]
            known = self.registrations.load(case)
            direct, _ = self.propagate(known["affine"][None].to(self.device), self._trusted(known), inside)
            _, agreed = vote([direct, *handed])
            self.handed.save(case, {"label": fuse(handed).half()}, voters=len(handed), agreement=agreed)

    def _trusted(self, velocities: Mapping[str, Tensor]) -> Tensor:
        """Return the instance-optimised velocity where there is one, else the network's."""
        return velocities.get("instance", velocities.get("network"))

    def _similarity(self, fixed: Tensor, affine: Tensor, velocity: Tensor, inside: Tensor) -> float:
        """Return the mean local correlation of the registered atlas with an image [1, C, H, W, D]."""
        size = tuple(fixed.shape[2:])
        ddf = total_ddf(affine, integrate(velocity[None].to(self.device), size), size)
        warped, known = warp_known(self.grey(self.atlas["image"]), ddf, unless_all(inside), self.atlas["known"])
        return -float(LocalNCCLoss()(warped, self.grey(fixed), known))

    def bridge_volumes(self) -> list[tuple[str, Tensor, Tensor]]:
        """Return (case, image [1, 1, H, W, D], label [1, K, H, W, D] from the atlas) of each bridge."""
        if not self.bridges:
            return []
        items = {item["case"]: item for item in self._unlabeled()}
        similarity = {case: self.registrations.judgement(case)["similarity"] for case in items}
        chosen = []
        for case in choose_bridges(similarity, self.bridges):
            known = self.registrations.load(case)
            inside = self.inside(items[case]["image"])
            label, _ = self.propagate(known["affine"][None].to(self.device), self._trusted(known), inside)
            chosen.append((case, self.grey(self._fixed(items[case])), label[None]))
        return chosen

    def velocities(self, fixed: Tensor, affine: Tensor, inside: Tensor) -> dict[str, Tensor]:
        """Return the velocity [3, h, w, d] of each registration of the atlas to an image [1, C, H, W, D], of which
        `inside` was scanned."""
        found = {}
        moving = self.atlas["image"]
        if self.registration is not None:
            with torch.no_grad():
                self.registration.eval()
                aligned = warp(moving, total_ddf(affine, None, tuple(fixed.shape[2:])))
                found["network"] = self.registration(aligned, fixed)[0]
        if self.instance_steps or not found:
            found["instance"] = register_velocity(
                self.grey(fixed),
                self.grey(moving),
                affine,
                steps=self.instance_steps,
                coarse_steps=self.coarse_steps,
                smooth_weight=self.smooth_weight,
                fixed_known=unless_all(inside),
                moving_known=self.atlas["known"],
            )[0]
        return found

    def propagate(self, affine: Tensor, velocity: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Return the atlas label [K, H, W, D] under an affine [1, 3, 4] and a velocity [3, h, w, d], and the ddf.

        All classes are 0 where the case was not scanned (`inside`, of that name), or where the atlas was not.
        """
        size = tuple(self.atlas["label"].shape[2:])
        ddf = integrate(velocity[None].to(self.device), size)
        return (warp(self.atlas["label"], total_ddf(affine, ddf, size)) * inside)[0], ddf

    def guide(
        self, fixed: Tensor, affine: Tensor, velocity: Tensor, prediction: Tensor, steps: int, inside: Tensor
    ) -> Tensor:
        """Return a velocity that goes on from `velocity` with the prediction [K, H, W, D] as a guide."""
        return register_velocity(
            self.grey(fixed), self.grey(self.atlas["image"]), affine, steps, smooth_weight=self.smooth_weight,
            velocity=velocity[None], fixed_probabilities=prediction[None], moving_probabilities=self.atlas["label"],
            fixed_known=unless_all(inside), moving_known=self.atlas["known"],
        )[0]  # fmt: skip

    def predict(self, image: Tensor) -> Tensor:
        """Return the network's probabilities [K, H, W, D] of an image [1, C, H, W, D]."""
        with eval_mode(self.network):
            return self.inferer(image, self.network).exp()[0]

    def label(self, number: int) -> None:
        """Make the pseudo labels of a round (from 1) and select those to learn from; finished ones on disk are kept.

        A label is judged by how far independent opinions on it agree: the network's and the registrations', else the
        registrations' among each other; where there is a single one, by the similarity that it reached.
        """
        self.labels = self.work.bank(f"round_{number}")
        if idist.get_rank() == 0:
            truth = {"label": self.atlas["label"][0].half()}
            self.labels.save(self.atlas["case"], truth, quality=1.0, folding_percent=0.0)
        for item in self.work.each(self._unlabeled(), self.labels):
            case, fixed, inside = item["case"], self._fixed(item), self.inside(item["image"])
            known = self.registrations.load(case)
            similarity = self.registrations.judgement(case)["similarity"]
            affine = known.pop("affine")[None].to(self.device)
            if "instance" in known and not self.fuse_network:
                known.pop("network", None)
            own = self.predict(fixed) * inside[0] if number > 1 else None
            if own is not None and self.guided_steps and "instance" in known:
                known["instance"] = self.guide(fixed, affine, known["instance"], own, self.guided_steps, inside)
            propagated = {name: self.propagate(affine, velocity, inside) for name, velocity in known.items()}
            opinions = [label for label, _ in propagated.values()]
            folding = max(float(folding_percent(ddf)) for _, ddf in propagated.values())
            quality = agreement(*opinions[:2]) if len(opinions) > 1 else similarity
            fused = fuse(opinions)
            sharpen = self.refine_intensity
            if self.bridges and case in self.handed:
                judged, handed = self.handed.judgement(case), self.handed.load(case)["label"].to(self.device)
                quality = judged["agreement"]
                if agreement(fused, handed) < self.confirmation:
                    mixed = torch.lerp(fused, handed, judged["voters"] / (judged["voters"] + len(opinions)))
                    fused = fuse([mixed])
                    sharpen = 0.0  # a vote's soft rim is wide, and intensities make it wider
            if own is not None:
                quality = agreement(own, fused)
            # a network that is far from the registration yet would only blur what it is to learn from
            if own is not None and quality >= self.min_agreement:
                fused = fuse([fused, own])
            if sharpen:
                fused = refine_by_intensity(self.grey(fixed)[0], fused, sharpen)
            self.labels.save(case, {"label": fused.half()}, quality=quality, folding_percent=folding)
        unlabeled = [item["case"] for item in self.cohort.images if item["case"] != self.atlas["case"]]
        quality_of = {case: self.labels.judgement(case)["quality"] for case in unlabeled}
        self.selected = select_by_quality(quality_of, self.keep)
        self.round = number

    def training_indices(self) -> list[int]:
        """Return the positions, in the data set, of the atlas and the selected cases."""
        chosen = {self.atlas["case"], *self.selected}
        return [index for index, item in enumerate(self.cohort.images) if item["case"] in chosen]
