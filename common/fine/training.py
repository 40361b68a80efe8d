"""The stage in which the fine network learns, after the coarse one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import ignite.distributed as idist
import torch
from monai.data import Dataset
from torch import nn
from torch.optim import AdamW

from ..costs.pieces import pieces, rehearsal
from ..launch.words import number, optional_number, truth
from ..learning.schedules import WarmCosineLR
from ..pseudo_labels.objective import SegmentObjective
from ..run.run import Run
from ..training.augmentation import Augmentation
from ..training.loaders import two_stream_loader
from ..training.stage import Stage
from .cases import FineCases
from .choice import CASES, refuse_unlearnt
from .patches import PatchPreprocessing

NAME = "fine"
WIDE = "wide"  # what it does first, on voxels twice as large
JUMP = 2.5  # times that the first level is coarser along an axis, from which on that pays
WARM_UP = 0.05  # first share of the steps, in which the rate rises
STEPS = 800  # on voxels of a size, for each window that the structures of a case have together on the larger ones
MOST = 4  # windows that these steps grow with


class FineTraining:
    """Train the fine network on patches of fine cases by Dice and cross entropy; without one nothing is done.

    Nor is anything where there is no case to learn from, which is said: what the first level has learnt is kept.

    A new one begins as the coarse network, where their bodies are alike: that knows the same structures at another
    scale. And it learns on voxels twice as large before it does on its own: a window that shows a part of one organ
    alone teaches little to begin with. Thirteen abdominal organs were learnt in a few minutes so, and not at all
    without (docs/clinical.md).

    Args:
        run: of the config.
        plan: where the stage is listed.
        cases: what is learnt from.
        network: image [B, C, *window] -> logits [B, K, *window]; None: the coarse level is the only one.
        augmentation: of a patch's `image` and `label`.
        epochs, epoch_length, learning_rate: of each of the two stages; of no epochs, as many as the structures want.
        labeled_batch, unlabeled_batch: patches of a step from cases with and without a label.
        one_piece: of structures that are one piece in all labels that are the truth, keep the largest in predictions.
        randomise: share of the patches that become copies of random contrast, see `PatchPreprocessing`.
    """

    def __init__(
        self,
        run: Run,
        plan: Any,
        cases: FineCases,
        network: nn.Module | None,
        augmentation: Augmentation | None,
        epochs: int | None,
        epoch_length: int,
        learning_rate: float,
        labeled_batch: int = 2,
        unlabeled_batch: int = 0,
        amp: bool = False,
        one_piece: bool = True,
        randomise: float = 0.0,
    ) -> None:
        self.training_run, self.plan, self.cases, self.network = run, plan, cases, network
        self.augmentation, self.learning_rate, self.amp = augmentation, learning_rate, amp
        self.pieces, self.randomise = truth("one_piece", one_piece), number("randomise", randomise)
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
            body = getattr(self.cases.network, "body", None)
            if body is not None and self.is_new():
                begin_as(self.network.body, body)
            self.tell_pieces()
            for stage in self.stages():
                stage.run()
            truth = self.cases.with_truth() or self.cases.wanted()
            self.training_run.measure(f"{self.name} comparison", self.compare, pieces(truth, CASES))
        elif idist.get_rank() == 0:
            print("warning: level 1 finds nothing in any scan: level 2 has nothing to learn from", flush=True)

    def is_new(self) -> bool:
        """Whether the network is as it was built: none whose training goes on."""
        pairs = zip(self.network.body.parameters(), self._untrained.body.parameters(), strict=True)
        return all(torch.equal(own.cpu(), built.cpu()) for own, built in pairs)

    def tell_pieces(self) -> None:
        """Let the network know which classes are one piece, and say so."""
        known = self.cases.one_piece() if self.pieces else [False] * self.cases.classes
        self.network.know_pieces(known)
        names = [name for name, one in zip(self.cases.cohort.labels.values(), known, strict=True) if one]
        if names and idist.get_rank() == 0:
            print(f"{self.name}: of {', '.join(names)} the largest piece is kept (one_piece)", flush=True)
            self.training_run.manifest.facts["one_piece"] = names

    def compare(self) -> None:
        """Refuse a network that has not learnt enough, and say so."""
        found = refuse_unlearnt(self.network, self.cases)
        self.network.refused = self.network.refused and rehearsal() is None  # else the second level would cost nothing
        if idist.get_rank() == 0:
            facts = self.training_run.manifest.facts
            facts["levels_compared"] = {**facts.get("levels_compared", {}), self.name: found._asdict()}
            if found.refused:
                print(f"warning: {found}", flush=True)

    def stages(self) -> Iterator[Stage]:
        """Yield the trainer on voxels twice as large, where there is one, then that on the network's own.

        The cases have to be there. Each one is to be run before the next one is asked for.
        """
        fine, coarse = (network.pixdim.tolist() for network in (self.network, self.cases.network))
        wide = [2 if large >= JUMP * small else 1 for small, large in zip(fine, coarse, strict=True)]
        epochs = self.epochs or self.plan_epochs(wide)
        if max(wide) > 1:
            yield self.stage(f"{self.name} {WIDE}", epochs, wide)
        yield self.stage(self.name, epochs, [1, 1, 1])

    def plan_epochs(self, wide: Sequence[int]) -> int:
        """Return how many epochs the structures of the cases want on voxels of a size, and say why."""
        windows = self.cases.count_windows([n * s for n, s in zip(self.network.window, wide, strict=True)])
        epochs = ceil(STEPS * min(windows, MOST) / self.epoch_length)
        if idist.get_rank() == 0:
            print(
                f"{self.name}: {'twice ' * (max(wide) > 1)}{epochs} epochs, for structures of {windows:.1f} windows "
                "(fine_epochs)",
                flush=True,
            )
        return epochs

    def stage(self, name: str, epochs: int, shrink: Sequence[int]) -> Stage:
        """Return a trainer on voxels that are so many times as large as the network's."""
        pixdim = [p * s for p, s in zip(self.network.pixdim.tolist(), shrink, strict=True)]
        changes = self.augmentation.on_voxels_of(pixdim)
        preprocessing = PatchPreprocessing(
            self.network.window, self.cases.classes, changes, shrink, self.randomise, pixdim
        )
        dataset = Dataset(self.cases.cases, preprocessing)
        loader = two_stream_loader(
            self.training_run, dataset, self.cases.labeled, self.epoch_length, *self.batch, stream=5
        )
        optimizer = AdamW(self.network.parameters(), lr=self.learning_rate)
        falling = WarmCosineLR(optimizer, max(1, epochs * len(loader)), WARM_UP)
        stage = Stage(
            self.training_run, name, epochs, loader, self.network, SegmentObjective(self.network), optimizer, falling,
            self.amp,
        )  # fmt: skip
        self.plan.trainers[name] = stage
        return stage


def begin_as(body: nn.Module, other: nn.Module) -> None:
    """Copy whatever two networks have alike, by name and shape, from the other one."""
    own = body.state_dict()
    alike = {
        name: value for name, value in other.state_dict().items() if name in own and own[name].shape == value.shape
    }
    body.load_state_dict({**own, **alike})
