"""How a specialist learns from few labels: supervised loss, consistency, pseudo labels, answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

from ..common.errors import InputError
from ..common.launch.words import optional
from ..common.learning.losses import SoftDiceCE
from ..common.learning.partial import merge_unknown, share_background
from ..common.learning.schedules import ramp_up
from ..common.run.manifest import settings_of
from ..common.tensors import background_beyond
from ..generalists.generalist_loss import GeneralistLoss
from ..network import Specialist
from .contrast import VoxelContrast
from .schedules import ramp_down

# image [N, 1, ...], probabilities [N, K, ...] -> answer [N, K, ...], disagreement [N, 1, ...], answer_weight [N]
AskGeneralists = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class SemiSupervisedObjective(nn.Module):
    """Learn from labelled items alone, and from generalists where there are any; the base of every method.

    loss = supervised_weight * supervised + lambda(t) * consistency + beta(t) * generalist + gamma(t) * pseudo_label
    + further parts of a method, with t the number of training forwards so far (buffer `step`). lambda rises by
    exp(-5 (1 - t/R)^2), beta falls by the same law read backwards (SemiSAM+ and its release: both over the whole
    training; gamma, a constant, is no part of it).

    Batch: image [B, 1, H, W, D] in [0, 1]; label [B, K, H, W, D] soft one-hot; labeled [B] bool. Labels of unlabelled
    items are never read. known [B, K] bool: the classes that a label tells about; without it all, see `merge_unknown`.
    With generalists either answer [B, K, H, W, D], disagreement [B, 1, H, W, D] and answer_weight
    [B] (bank), or none of these and a callable `generalists` (online). With pseudo labels pseudo_label
    [B, K, H, W, D] soft, all classes 0 where nothing is known, and pseudo_labeled [B] bool, who has one. inside
    [B, 1, H, W, D] is 0 where an image was not scanned and nothing is learnt; without it all was. Items may come in any
    order.

    A method is a subclass with `method_losses`, and `begin_step` where it has a teacher.

    Args:
        network: the specialist.
        total_steps: training forwards of the whole run.
        generalist_loss: None for the base method alone.
        consistency_weight: lambda at its end; 0.1 in SemiSAM+.
        consistency_ramp: share of the training over which lambda rises; 0 for a constant.
        generalist_weight: beta at its start. The release has 0.01 (void there) and 0.05 in its first version.
        generalist_warmup: share of the training before the generalists are heard.
        generalist_fade: share of the training, at its end, over which beta falls; 0 for a constant.
        supervised_weight: of Dice + cross entropy; the half of the paper.
        pseudo_label_weight: gamma: of Dice + cross entropy with pseudo labels; 0 for none.
        generalists: asked in every step about the batch's unlabelled images; never trained, not part of the state.
        generalist_every: online, steps from one question to the next.
        prompt_source: online, whose probabilities make the prompts: "teacher" (where the method has one) or "student".
        contrast: how the voxels of a contrast of classes are drawn, see `VoxelContrast`; None for none.
        contrast_weight: of it; ARCO's.

    Raises:
        InputError: a setting out of its range; at the first forward, a network with too few channels.
    """

    title = "labels alone"  # the method's name in tables
    teacher: nn.Module | None
    learns_without_labels = False  # whether a site of a federated training may have none

    def __init__(
        self,
        network: Specialist,
        *,
        total_steps: int,
        generalist_loss: GeneralistLoss | None = None,
        consistency_weight: float = 0.1,
        consistency_ramp: float = 1.0,
        generalist_weight: float = 0.1,
        generalist_warmup: float = 0.0,
        generalist_fade: float = 1.0,
        supervised_weight: float = 0.5,
        pseudo_label_weight: float = 0.0,
        generalists: AskGeneralists | None = None,
        generalist_every: int = 1,
        prompt_source: str = "teacher",
        contrast: str | None = None,
        contrast_weight: float = 0.01,
    ) -> None:
        super().__init__()
        problems = [
            f"{name} is {value}; wanted 0 to 1"
            for name, value in (
                ("consistency_ramp", consistency_ramp),
                ("generalist_warmup", generalist_warmup),
                ("generalist_fade", generalist_fade),
            )
            if not 0 <= value <= 1
        ]
        weights = {"consistency": consistency_weight, "generalist": generalist_weight, "supervised": supervised_weight}
        weights |= {"pseudo_label": pseudo_label_weight, "contrast": contrast_weight}
        problems += [f"{name}_weight is {value}; wanted 0 or more" for name, value in weights.items() if value < 0]
        counts = {"total_steps": total_steps, "generalist_every": generalist_every}
        problems += [f"{name} is {value}; wanted 1 or more" for name, value in counts.items() if value < 1]
        if prompt_source not in ("teacher", "student"):
            problems.append(f"prompt_source is {prompt_source!r}; wanted teacher or student")
        if problems:
            raise InputError(problems)
        self.network, self.teacher, self.generalist_loss = network, None, generalist_loss
        self.total_steps = total_steps
        self.consistency_weight, self.consistency_ramp = consistency_weight, consistency_ramp
        self.generalist_weight, self.generalist_fade = generalist_weight, generalist_fade
        self.generalist_warmup, self.generalist_every = generalist_warmup, generalist_every
        self.supervised_weight, self.prompt_source = supervised_weight, prompt_source
        self.pseudo_label_weight = pseudo_label_weight
        # in a tuple a module is no submodule: foundation models stay out of parameters, state dict and DDP
        self._generalists = (generalists,)
        self.segmentation_loss = DeepSupervisionLoss(SoftDiceCE())
        sampling = optional(contrast)
        self.contrast = VoxelContrast(network, sampling) if sampling is not None and contrast_weight > 0 else None
        self.contrast_weight = contrast_weight
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @classmethod
    def options(cls) -> set[str]:
        """Return the names of a method's settings: the keyword-only arguments of its class and of those above it."""
        return {
            name
            for kind in cls.__mro__
            if issubclass(kind, SemiSupervisedObjective)
            for name, parameter in inspect.signature(kind.__init__).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What the method was built with, for run.json."""
        own = {name: value for name, value in sorted(vars(self).items()) if name in self.options()}
        answers = {} if self.generalist_loss is None else settings_of(self.generalist_loss)
        contrast = None if self.contrast is None else self.contrast.sampling
        return {**own, "contrast": contrast, "generalist_loss": answers}

    @staticmethod
    def body_channels(classes: int) -> int:
        """Return how many channels the method wants of the network's body, for K classes."""
        return classes

    def begin_step(self, step: int) -> None:
        """Do what comes before a training forward, with the weights that the step before has left."""

    def method_losses(self, batch: dict[str, Tensor], output: Tensor, progress: float) -> dict[str, Tensor]:
        """Return the method's losses: `consistency`, which lambda weights, and others, added as they are.

        Args:
            batch: as given to forward.
            output: all channels of the specialist in float32, with gradient [B, C, H, W, D].
            progress: 0 to 1.
        """
        return {}

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups."""
        own = [p for p in self.network.parameters() if p.requires_grad]
        return [{"params": [*own, *(self.contrast.parameters() if self.contrast is not None else ())], "lr": lr}]

    def schedule(self, step: int) -> tuple[float, float]:
        """Return lambda and beta at a step."""
        total = self.total_steps
        beta = self.generalist_weight * ramp_down(step, total, self.generalist_fade * total)
        heard = step >= self.generalist_warmup * total
        return self.consistency_weight * ramp_up(step, self.consistency_ramp * total), beta if heard else 0.0

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        step = int(self.step)
        if self.training:
            self.begin_step(step)
        watched = self.contrast is not None and self.training
        with self.contrast.watching(self.network) if watched else nullcontext():
            levels = self.levels(self.network, batch["image"])
        output = levels[0]
        consistency_weight, generalist_weight = self.schedule(step)
        losses = {"supervised": self.supervised(levels, batch)}
        total = self.supervised_weight * losses["supervised"]
        for name, loss in self.method_losses(batch, output, min(step / self.total_steps, 1.0)).items():
            losses[name] = loss
            total = total + (consistency_weight if name == "consistency" else 1.0) * loss
        if "consistency" in losses:
            losses["consistency_weight"] = output.new_tensor(consistency_weight)
        if watched:
            losses["contrast"] = self.contrast(self.believed(batch, output), self.inside(batch))
            total = total + self.contrast_weight * losses["contrast"]
        if self.pseudo_label_weight > 0:
            losses["pseudo_label"] = self.learn_from_pseudo_labels(levels, batch)
            total = total + self.pseudo_label_weight * losses["pseudo_label"]
        if self.generalist_loss is not None:
            losses["generalist"] = self.learn_from_generalists(batch, output, step, generalist_weight)
            losses["generalist_weight"] = output.new_tensor(generalist_weight)
            total = total + generalist_weight * losses["generalist"]
        if self.training:
            self.step += 1
        return {"loss": total, **losses}

    def levels(self, network: Specialist, image: Tensor) -> list[Tensor]:
        """Return a network's maps in float32, the finest first; raise InputError where channels are missing."""
        levels = [level.float() for level in network.forward_levels(image)]
        wanted = self.body_channels(network.classes)
        if levels[0].shape[1] < wanted:
            raise InputError(
                f"the network's body has {levels[0].shape[1]} output channels; {type(self).__name__} wanted {wanted} "
                f"for {network.classes} classes"
            )
        return levels

    def supervised(self, levels: list[Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Return Dice + cross entropy of the labelled items over the levels, halved in weight from level to level."""
        return self.segmentation(levels, batch["label"], batch["labeled"].bool(), batch.get("known"))

    def learn_from_pseudo_labels(self, levels: list[Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Return Dice + cross entropy of the unlabelled items with a pseudo label, where that is known."""
        if "pseudo_labeled" not in batch:
            return no_loss(levels[0])
        chosen = batch["pseudo_labeled"].bool() & ~batch["labeled"].bool()
        return self.segmentation(levels, batch["pseudo_label"], chosen)

    def segmentation(self, levels: list[Tensor], target: Tensor, chosen: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the loss of the chosen items, [B] bool, by targets [B, K, H, W, D] that tell about known classes."""
        if not bool(chosen.any()):
            return no_loss(levels[0])
        classes = self.network.classes
        told = None if known is None else known[chosen]
        own = [merge_unknown(level[chosen, :classes], told) for level in levels]
        return self.segmentation_loss(own, target[chosen].float())

    @torch.no_grad()
    def believed(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        """Return the label of labelled items, and of others the own probabilities [B, K, H, W, D].

        So it is of what a label calls background where it doesn't tell about all classes.
        """
        labeled, own = batch["labeled"].bool().view(-1, 1, 1, 1, 1), self.probabilities(output)
        return torch.where(labeled, share_background(batch["label"].float(), own, batch.get("known")), own)

    def inside(self, batch: dict[str, Tensor]) -> Tensor:
        """Return where the images of a batch were scanned, bool [B, 1, H, W, D]."""
        return batch.get("inside", torch.ones_like(batch["image"][:, :1])) > 0.5

    def probabilities(self, output: Tensor) -> Tensor:
        """Return class probabilities [B, K, ...] of an output with all channels."""
        return output[:, : self.network.classes].float().softmax(1)

    def learn_from_generalists(self, batch: dict[str, Tensor], output: Tensor, step: int, weight: float) -> Tensor:
        """Return the generalists' loss of the unlabelled items; nobody is asked where its weight is 0."""
        unlabeled = ~batch["labeled"].bool()
        online = self._generalists[0] is not None and "answer" not in batch and step % self.generalist_every == 0
        if weight == 0 or not bool(unlabeled.any()) or not (online or "answer" in batch):
            return no_loss(output)
        probabilities, inside = self.probabilities(output[unlabeled]), self.inside(batch)[unlabeled]
        if online:
            answers = self.ask(batch["image"][unlabeled], probabilities.detach(), inside)
        else:
            answers = tuple(batch[name][unlabeled] for name in ("answer", "disagreement", "answer_weight"))
        return self.generalist_loss(probabilities, *answers, inside=inside)

    @torch.no_grad()
    def ask(self, image: Tensor, probabilities: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the generalists' answer, disagreement and weight for images and the student's probabilities, which
        are of the background where an image was not scanned."""
        if self.teacher is not None and self.prompt_source == "teacher":
            probabilities = self.teacher(image).float().softmax(1)
        return self._generalists[0](image, background_beyond(probabilities, inside))


def no_loss(output: Tensor) -> Tensor:
    """Return a zero that hangs on the network, so that backward works where a batch holds nothing to learn from."""
    return output.sum() * 0
