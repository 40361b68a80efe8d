"""Labels of the unlabelled cases that the specialist learns from: a first network's, registration's, or their mean."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean
from typing import Any

import ignite.distributed as idist
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from ..common.grid.field_of_view import inside_scan
from ..common.launch.words import optional, truth
from ..common.pseudo_labels.opinions import agreement, fuse
from ..common.pseudo_labels.store import PseudoLabelBank
from ..common.pseudo_labels.work import CaseWork, settings_digest
from ..common.tensors import plain
from .registration import RegistrationLabels


class PseudoLabels:
    """Let a network that has learnt from the labelled cases alone label all others, beside what registration says.

    No part of SemiSAM+. Self-training as in Noisy Student (Xie et al., CVPR 2020): the specialist then learns anew from
    labels and soft pseudo labels of changed images. A network and a registration err in different places, so that the
    mean of both is better than either, unless the network knows far less: where it agrees less with what the
    registrations say than these agree with one another it has no say (docs/few_label.md).

    Args:
        self_training: whether a first network is trained for that; None: wherever a case is labelled and one is not,
            but in a federated training, in which sites would learn from labels of their own networks.
        registered: labels from registration, which are off or on by themselves; its cohort and images are these.
        inferer: (image, network) -> log-probabilities.
        folder: where the labels of a run lie; those found there are used again in a resumed run.

    Attributes:
        self_training: whether it is done.
        joined: whether the network's labels join those from registration; None where there are none, or not yet.
        selected: ids of the cases whose pseudo label is learnt from.
    """

    def __init__(
        self,
        self_training: bool | str | None,
        registered: RegistrationLabels,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        folder: str,
    ) -> None:
        self.cohort, self.registered, self.inferer = registered.cohort, registered, inferer
        wanted = optional(self_training)
        wanted = not self.cohort.federated if wanted is None else truth("self_training", wanted)
        self.self_training = wanted and bool(self.cohort.labeled and self.cohort.unlabeled)
        self._folder = folder
        self._made, self.joined = False, None

    @property
    def on(self) -> bool:
        """Whether there are pseudo labels of any kind."""
        return self.self_training or self.registered.on

    @property
    def settings(self) -> dict[str, Any]:
        """What the labels hang on, for run.json."""
        return {"self_training": self.self_training, "registered": self.registered.on}

    @property
    def selected(self) -> list[str]:
        if not self.self_training or self.joined is False:
            return self.registered.selected
        return [case["case"] for case in self.cohort.unlabeled] if self._made else []

    @property
    def work(self) -> CaseWork:
        """What is kept of these labelled cases on this grid."""
        labelled = [case["case"] for case in self.cohort.labeled]
        identity = settings_digest(labelled, self.cohort.grid.as_dict(), self.registered.on)
        return CaseWork(self._folder, identity, self.registered.resume)

    @property
    def bank(self) -> PseudoLabelBank:
        """What the first network says."""
        return self.work.bank()

    def make(self, network: nn.Module) -> None:
        """Label all unlabelled cases by a network; those on disk from an interrupted run are kept."""
        bank, names = self.bank, {case["case"] for case in self.cohort.unlabeled}
        self.work.remove_stale()
        unlabeled = [item for item in self.registered.images if item["case"] in names]
        for item in self.work.each(unlabeled, bank, "pseudo labels"):
            image, inside = plain(item["image"]).float(), inside_scan(item["image"])
            with eval_mode(network):
                own = self.inferer(image[None].to(self.registered.device), network).exp()[0].cpu() * inside
            judgement = {}
            if item["case"] in self.reached:
                label = self.registered.labels.load(item["case"])["label"]
                judgement = {"agreement": agreement(own, label, self.registered.present)}
            bank.save(item["case"], {"label": own.half()}, **judgement)
        self._made = True
        self.compare()

    @property
    def reached(self) -> set[str]:
        """Ids of the cases that have a label from registration, none of them where these reach nearly nothing."""
        return self.registered.unlabeled if self.registered.on and self.registered.selected else set()

    def compare(self) -> None:
        """Find out, and say, whether the network knows as much as the registrations, as far as that shows."""
        self.joined = None
        if not self.reached:
            return
        quality = self.registered.quality()
        own = mean(self.bank.judgement(case)["agreement"] for case in self.reached)
        theirs = mean(quality[case] for case in self.reached)
        self.joined = own >= theirs
        if idist.get_rank() == 0:
            what = "joins them" if self.joined else "is left out"
            print(
                f"pseudo labels: the plain network agrees with labels from registration by a Dice of {own:.2f}, these "
                f"with one another by {theirs:.2f}: it {what}",
                flush=True,
            )

    def load(self, case: str) -> Tensor | None:
        """Return the label [K, H, W, D] of a case, all classes 0 where nothing is known; None where it isn't learnt."""
        if case not in self.selected:
            return None
        if not self.self_training or self.joined is False:
            return self.registered.load(case)
        own = self.bank.load(case)["label"]
        return fuse([own, self.registered.labels.load(case)["label"]]) if case in self.reached else own
