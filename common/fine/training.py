"""The stage in which the fine network learns, after the coarse one."""

from __future__ import annotations

import copy
from math import ceil
from typing import Any

import ignite.distributed as idist
from monai.data import Dataset
from monai.networks.utils import copy_model_state
from monai.transforms import Compose
from torch import nn
from torch.optim import AdamW

from ..grid.network import BodyNetwork
from ..launch.words import optional_number
from ..learning.schedules import WarmCosineLR
from ..pseudo_labels.objective import SegmentObjective
from ..run.run import Run
from ..training.loaders import two_stream_loader
from ..training.stage import Stage
from .cases import FineCases
from .choice import refuse_unlearnt
from .patches import PatchPreprocessing

NAME = "fine"
WARM_UP = 0.05  # first share of the steps, in which the rate rises
STEPS = 800  # for each window that a case's region has: what a single one takes to learn
MOST = 8  # windows that the planned steps grow with


class FineTraining:
    """Train the fine network on patches of fine cases by Dice and cross entropy; without one nothing is done.

    Nor is anything where there is no case to learn from, which is said: what the first level has learnt is kept.

    It begins as the coarse network, where their bodies are alike: that knows the same structures at another scale.
    Thirteen abdominal organs were learnt four times as fast so (docs/clinical.md).

    Args:
        run: of the config.
        plan: where the stage is listed.
        cases: what is learnt from.
        network: image [B, C, *window] -> logits [B, K, *window]; None: the coarse level is the only one.
        augmentation: of a patch's `image` and `label`.
        epochs, epoch_length, learning_rate: of the stage; of no epochs, as many as the regions' windows want.
        labeled_batch, unlabeled_batch: patches of a step from cases with and without a label.
    """

    def __init__(
        self,
        run: Run,
        plan: Any,
        cases: FineCases,
        network: nn.Module | None,
        augmentation: Compose | None,
        epochs: int | None,
        epoch_length: int,
        learning_rate: float,
        labeled_batch: int = 2,
        unlabeled_batch: int = 0,
        amp: bool = False,
    ) -> None:
        self.training_run, self.plan, self.cases, self.network = run, plan, cases, network
        self.augmentation, self.learning_rate, self.amp = augmentation, learning_rate, amp
        self.epochs = optional_number("fine_epochs", epochs, whole=True, least=1)
        self.epoch_length, self.batch = epoch_length, (labeled_batch, unlabeled_batch)
        self.name, self._untrained = NAME, copy.deepcopy(network)

    def network_for(self, coarse: nn.Module, name: str) -> nn.Module | None:
        """Return another fine network for another coarse one, trained here; None where there is no second level.

        Args:
            coarse: is trained already.
            name: of the stage, and in that of the folder of its cases.
        """
        if self.network is None:
            return None
        other = copy.copy(self)
        other.name, other.network = f"{name} {NAME}", copy.deepcopy(self._untrained)
        other.cases = self.cases.of(coarse, name)
        other.run()
        return other.network

    def run(self) -> None:
        """Bring the cases to fine voxels, then train."""
        if self.network is None:
            return
        self.training_run.measure(f"{self.name} regions", self.cases.prepare)
        if self.cases.cases:
            if isinstance(self.cases.network, BodyNetwork):
                copy_model_state(self.network.body, self.cases.network.body)
            self.stage().run()
            self.training_run.measure(f"{self.name} comparison", self.compare)
        elif idist.get_rank() == 0:
            print("warning: level 1 finds nothing in any scan: level 2 has nothing to learn from", flush=True)

    def compare(self) -> None:
        """Refuse a network that has not learnt enough, and say so."""
        found = refuse_unlearnt(self.network, self.cases)
        if idist.get_rank() == 0:
            facts = self.training_run.manifest.facts
            facts["levels_compared"] = {**facts.get("levels_compared", {}), self.name: found._asdict()}
            if found.refused:
                print(f"warning: {found}", flush=True)

    def planned_epochs(self) -> int:
        """Return how many epochs the regions of the cases want, and say why."""
        windows = self.cases.windows
        epochs = ceil(STEPS * min(windows, MOST) / self.epoch_length)
        if idist.get_rank() == 0:
            print(f"{self.name}: {epochs} epochs for regions of {windows:.1f} windows (fine_epochs)", flush=True)
        return epochs

    def stage(self) -> Stage:
        """Return the trainer, once the cases are there."""
        size = self.network.window
        preprocessing = PatchPreprocessing(size, self.cases.classes, self.augmentation)
        dataset = Dataset(self.cases.cases, preprocessing)
        loader = two_stream_loader(
            self.training_run, dataset, self.cases.labeled, self.epoch_length, *self.batch, stream=5
        )
        optimizer = AdamW(self.network.parameters(), lr=self.learning_rate)
        epochs = self.planned_epochs() if self.epochs is None else self.epochs
        falling = WarmCosineLR(optimizer, max(1, epochs * len(loader)), WARM_UP)
        stage = Stage(
            self.training_run, self.name, epochs, loader, self.network, SegmentObjective(self.network), optimizer,
            falling, self.amp,
        )  # fmt: skip
        self.plan.trainers[self.name] = stage
        return stage
