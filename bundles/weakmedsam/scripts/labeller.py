"""Pseudo labels from presence bits: a prior, what tissue looks like, a random walk, a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from .cohort import WeakCohort
from .common.errors import InputError
from .common.grid.field_of_view import inside_scan
from .common.imaging.cam import SCOPES, cam_volume
from .common.imaging.thresholds import area_thresholds, fixed_thresholds, otsu_thresholds
from .common.launch.words import optional_number, truth
from .common.processes import together
from .common.pseudo_labels.judgement import judge
from .common.pseudo_labels.store import PseudoLabelBank
from .common.pseudo_labels.work import CaseWork, settings_digest
from .common.slices.presence_volume import slice_bits
from .common.tensors import plain
from .prior.expected_size import choose_threshold, shares_by_box, shares_by_volume
from .prior.learned_location import LearnedLocation
from .prior.location import box_reach, centre_prior, enclosed, location_prior
from .prior.organs import choose_groups
from .soft_labels import calibrate, cut, posterior
from .walk.walks import Walk

PRIORS = ("auto", "box", "cam", "centre")
COARSE_PASSES = 3  # an activation map's tokens are many voxels wide


class PseudoLabeller:
    """Make, renew and keep the pseudo labels of all training cases.

    A map of where a label may be (the prior) comes from a typical box, from the classifier's activation map or from
    nothing but the centre. Rounds of an appearance network add what the tissue there looks like, and the mean label of
    all cases becomes the next round's location. A walk spreads the result along what looks alike, a threshold cuts it.
    Slices whose bit is 0 are exact background throughout. Where the grid goes on beyond the scan no label is, and
    nothing is learnt.

    Args:
        cohort: of the training cases.
        images: items with `case`, `image` MetaTensor [1, H, W, D] in [0, 1] and `presence` [P, H, W, D].
        walk: of the labels of each round but the first, and of the final ones.
        features: where the prior is `cam`: `features(case)` [n, D, h, w].
        classifier: where the prior is `cam`: features [n, D, h, w] -> logits, maps [n, P, h, w].
        prior: `box` (every label needs one in the datalist's `locations`), `cam`, `centre`, or `auto`: box where every
            label has one, else cam.
        rounds: of the appearance network; 0 for the published form. None: 0 for `cam`, which they did not help, else 4.
        learn_location: once the labels of round 2 are there, their mean over all selected cases is a location beside
            the prior, and so on from round to round.
        walk_passes: how often a map is walked and cut anew; None: 3 for `cam`, whose maps are coarse, else 1.
        sharing: which labels have one appearance, see `choose_groups`; `groups` is the answer.
        threshold: see `choose_threshold`.
        map_scope: `volume` or `slice`, over which an activation map is normalised.
        ignore_band: scores closer than this to the threshold (0.5) in positive slices teach nothing.
        folder: of the labels on disk.
        resume: keep what an interrupted run of the same settings has left, and make what is missing.

    Raises:
        InputError: a setting that is unknown, or that needs what the datalist or the config doesn't have.
    """

    def __init__(
        self,
        cohort: WeakCohort,
        images: Sequence[Mapping[str, Any]],
        walk: Walk,
        folder: str,
        features: Any = None,
        classifier: nn.Module | None = None,
        prior: str = "auto",
        rounds: int | None = None,
        learn_location: bool = True,
        walk_passes: int | None = None,
        sharing: str = "auto",
        threshold: str | float = "auto",
        map_scope: str = "volume",
        ignore_band: float = 0.2,
        device: str | torch.device = "cpu",
        resume: bool = False,
    ) -> None:
        problems: list[str] = []
        rounds, walk_passes = count("rounds", rounds, 0, problems), count("walk_passes", walk_passes, 1, problems)
        if prior not in PRIORS:
            problems.append(f"prior is {prior!r}; wanted one of {', '.join(PRIORS)}")
        if map_scope not in SCOPES:
            problems.append(f"map_scope is {map_scope!r}; wanted one of {', '.join(SCOPES)}")
        if not 0 <= ignore_band < 0.5:
            problems.append(f"ignore_band is {ignore_band}; wanted 0 or more, and less than 0.5, which ignores all")
        if problems:
            raise InputError(problems)
        self.cohort, self.images, self.walk = cohort, images, walk
        self.features, self.classifier = features, classifier
        self.values = [value for value in cohort.labels if value != 0]
        self.boxes = [cohort.locations[value].box for value in self.values]
        self.sizes = [cohort.locations[value].volume_ml for value in self.values]
        self.asked = prior
        self.prior = ("cam" if None in self.boxes else "box") if prior == "auto" else prior
        coarse = self.prior == "cam"
        self.rounds = (0 if coarse else 4) if rounds is None else rounds
        self.walk_passes = (COARSE_PASSES if coarse else 1) if walk_passes is None else walk_passes
        self.learn_location, self.map_scope = truth("learn_location", learn_location), map_scope
        bits = (found.bits for found in cohort.slice_labels.values())
        self.sharing, self.groups = sharing, choose_groups(sharing, bits, len(self.values))
        missing = [value for value, box in zip(self.values, self.boxes, strict=True) if box is None]
        if self.prior == "box" and missing:
            raise InputError(f"prior is box, but locations has none for label {', '.join(map(str, missing))}")
        self.enclosed = enclosed(self.boxes, cohort.slice_axis) if self.prior == "box" else [[] for _ in self.values]
        self.threshold = choose_threshold(threshold, self.prior, self.sizes)
        self.ignore_band, self.device, self.resume = ignore_band, torch.device(device), resume
        if self.needs_classifier and features is None:
            raise InputError("prior is cam, but there are no features; wanted them and a classifier, or another prior")
        self.round = 0
        self._folder = folder
        self._work: CaseWork | None = None
        self._shares: list[float] | None = None

    @property
    def needs_classifier(self) -> bool:
        """Whether the prior is the classifier's activation map."""
        return self.prior == "cam"

    @property
    def cases(self) -> list[str]:
        return [item["case"] for item in self.images]

    @property
    def selected(self) -> list[str]:
        """Cases to learn from: those that the datalist does not reject."""
        return [case for case in self.cases if case not in self.cohort.reject]

    def training_indices(self) -> list[int]:
        """Return the positions of the selected cases among the images."""
        chosen = set(self.selected)
        return [index for index, case in enumerate(self.cases) if case in chosen]

    # --- stages

    def start(self) -> None:
        """Make the prior of every case, and from it the soft labels of round 1."""
        # what was made by other settings must not be gone on with
        settings: tuple[Any, ...] = (
            self.cohort.grid.as_dict(),
            self.prior,
            self.boxes,
            self.sizes,
            self.threshold,
            self.map_scope,
        )
        settings += (self.rounds, self.learn_location, self.walk_passes, self.groups, self.ignore_band)
        settings += (self.walk.settings,)
        self._work = CaseWork(self._folder, settings_digest(settings), self.resume)
        self._work.remove_stale(of_all_settings=True)
        bank = self._bank("prior")
        for item in self._work.each(self.images, bank):
            bank.save(item["case"], {"maps": self.make_prior(item).half()})
        for item in self._work.each(self.images, self._bank("round_1")):
            self._keep_round(1, item, bank.load(item["case"])["maps"])
        self.round = 1

    @torch.no_grad()
    def make_prior(self, item: Mapping[str, Any]) -> Tensor:
        """Return the prior [P, H, W, D] in [0, 1] of a case, 0 in its negative slices and beyond the scan."""
        image, axis = item["image"], self.cohort.slice_axis
        if self.prior == "box":
            maps = torch.stack([location_prior(image, box, axis) for box in self.boxes])
        elif self.prior == "centre":
            maps = centre_prior(image, axis).expand(len(self.values), -1, -1, -1)
        else:
            features = self.features.features(item["case"]).to(self.device)
            with eval_mode(self.classifier):
                found = self.classifier(features)[1].float().cpu()  # [n, P, h, w]
            maps = cam_volume(found, slice_bits(plain(item["presence"]), axis), image.shape[1:], axis, self.map_scope)
        return maps * self.presence(item)

    def presence(self, item: Mapping[str, Any]) -> Tensor:
        """Return where a case's labels may be [P, H, W, D], float32: 1 in their positive slices, inside the scan."""
        return plain(item["presence"]).float() * inside_scan(item["image"]).cpu()

    @torch.no_grad()
    def renew(self, number: int, network: nn.Module | None) -> None:
        """Make the soft labels of round `number` with the appearance network, image [B, 1, H, W, D] -> logits.

        Without rounds of it the network is None, and round 2 is the prior, walked, which a location is learnt from.

        A resumed run may enter at any round: labels on disk are kept, as the network has gone on learning since they
        were made. Rounds before that are not there (other settings) are made with the network as it is.
        """
        if self.round == 0:
            raise RuntimeError("pseudo labels: renew before start")
        for current in range(self.round + 1, number + 1):
            missing = self._work.missing(self.images, self._bank(f"round_{current}"))
            location = self._learn_location(current) if missing else None
            for item in together(missing):
                self._keep_round(current, item, self._combine(item, network, location))
            self.round = current

    @torch.no_grad()
    def finish(self, network: nn.Module | None = None) -> None:
        """Make the final labels: `target` [K, H, W, D], `weight` [1, H, W, D], and the numbers that judge them."""
        bank = self._bank("labels")
        missing = self._work.missing(self.images, bank)
        network = network if self.rounds else None
        # a location says nothing of the scan itself: without a network it can only add to an activation map
        last = self.rounds or (2 if self.learn_location and self.prior == "cam" else 1)
        self.renew(last, network)
        location = self._learn_location(last + 1) if missing else None
        for item in together(missing):
            presence, prior = self.presence(item), self._bank("prior").load(item["case"])["maps"]
            walked = self.spread(item, self._combine(item, network, location), presence)
            target, weight = cut(walked, presence, self.ignore_band)
            weight = weight * inside_scan(item["image"]).cpu()
            judged = self.judge(target, prior, presence)
            kept = {"target": target.half(), "weight": weight.half(), "maps": walked.half()}
            bank.save(item["case"], kept, **judged)

    def target(self, case: str) -> Tensor:
        """Return the soft labels [P, H, W, D] of the current round."""
        return self._bank(f"round_{self.round}").load(case)["maps"]

    def load(self, case: str) -> dict[str, Tensor]:
        """Return the final `target`, `weight` and soft `maps` of a case."""
        return self._bank("labels").load(case)

    def judgement(self, case: str) -> dict[str, Any]:
        """Return what `finish` noted of a case."""
        return self._bank("labels").judgement(case)

    # --- steps

    def _combine(self, item: Mapping[str, Any], network: nn.Module | None, location: LearnedLocation | None) -> Tensor:
        """Return the posterior [P, H, W, D] of prior, location and appearance; the prior itself where it is alone."""
        image, presence = item["image"], self.presence(item)
        prior = self._bank("prior").load(item["case"])["maps"]
        place = None if location is None else location.prior(image, presence)
        appearance = None
        if network is not None:
            with eval_mode(network):
                logits = network(plain(image).float()[None].to(self.device))[0].float().cpu()  # [G, H, W, D]
            appearance = logits[self.groups]
            if self.prior == "box":  # what looks alike elsewhere is something else
                appearance[~box_reach(image, self.boxes, self.cohort.slice_axis)] = -math.inf
        return posterior(prior, presence, place, appearance, of_this_scan=self.prior == "cam")

    def _learn_location(self, number: int) -> LearnedLocation | None:
        """Return the mean label of the round before, over selected cases; None in the first rounds or where off."""
        if not self.learn_location or number <= 2:
            return None
        before = self._bank(f"round_{number - 1}")
        found = LearnedLocation(self.cohort.slice_axis)
        found.fit(
            (item["image"], self.presence(item), (before.load(item["case"])["maps"] > 0.5).float())
            for item in self.images
            if item["case"] not in self.cohort.reject
        )
        return found

    def _keep_round(self, number: int, item: Mapping[str, Any], maps: Tensor) -> None:
        presence = self.presence(item)
        maps = self.calibrate(maps, presence)
        if number > 1:
            maps = self.spread(item, maps, presence)
        self._bank(f"round_{number}").save(item["case"], {"maps": maps.half()})

    def spread(self, item: Mapping[str, Any], maps: Tensor, presence: Tensor) -> Tensor:
        """Walk maps [P, H, W, D] of a case and cut them anew, `walk_passes` times; calibrated."""
        edges = self.walk.edges(item)  # a guide of SAM masks is dear
        for _ in range(self.walk_passes):
            maps = self.calibrate(self.walk(item, maps, presence, edges), presence)
        return maps

    def calibrate(self, maps: Tensor, presence: Tensor) -> Tensor:
        """Shift maps [P, H, W, D] in [0, 1] on the scale of logits so that their threshold becomes 0.5.

        A box around another's says that its label encloses the other, as a wall does its cavity: the inner one has what
        both claim, and the outer one's volume is counted in what is left.
        """
        found = torch.zeros_like(maps)
        for label in sorted(range(len(maps)), key=lambda label: len(self.enclosed[label])):  # inner ones first
            own, free = slice(label, label + 1), (found[self.enclosed[label]] <= 0.5).all(0, keepdim=True)
            cut_at = self._threshold(label, maps[own] * free, presence[own] > 0.5, free)
            found[own] = calibrate(maps[own] * free, cut_at) * presence[own] * free
        return found

    def _threshold(self, label: int, own: Tensor, inside: Tensor, free: Tensor) -> Tensor:
        """Return where one label's map [1, H, W, D] is cut, [1]; its volume is that of what is `free` of it."""
        if self.threshold == "size":
            left = inside & free
            share = self.shares()[label] * int(inside.sum()) / max(1, int(left.sum()))
            return area_thresholds(own, left, [min(1.0, share)])
        if self.threshold == "box":
            return area_thresholds(own, inside, [self.shares()[label]])
        return (
            otsu_thresholds(own, inside) if self.threshold == "otsu" else fixed_thresholds(own, float(self.threshold))
        )

    def shares(self) -> list[float]:
        """Return the share of a positive slice that each label is expected to cover, by its volume or by its box."""
        if self._shares is None:
            axis, grid = self.cohort.slice_axis, self.cohort.grid
            if self.threshold == "box":
                self._shares = shares_by_box(self.boxes, [item["image"] for item in self.images], axis)
            else:
                presences = (self.presence(item) for item in self.images)
                self._shares = shares_by_volume(self.sizes, presences, grid.pixdim, axis)
        return self._shares

    def judge(self, target: Tensor, prior: Tensor, presence: Tensor) -> dict[str, Any]:
        """Return what can be said without truth of a pseudo label `target` [K, H, W, D]; see `judgement.judge`."""
        there = self.calibrate(prior, presence) > 0.5
        return judge(target[1:] > 0.5, there, self.values, self.cohort.grid.pixdim, self.cohort.slice_axis)

    # --- places

    def _bank(self, name: str) -> PseudoLabelBank:
        if self._work is None:
            raise RuntimeError("pseudo labels: nothing was made yet, start comes first")
        return self._work.bank(name)


def count(key: str, word: Any, least: int, problems: list[str]) -> int | None:
    """Return a count, or None for null; add to `problems` where it is neither."""
    try:
        return optional_number(key, word, whole=True, least=least)
    except InputError as error:
        problems += error.problems
        return None
