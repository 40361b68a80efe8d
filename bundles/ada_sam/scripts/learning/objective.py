"""How ADA-SAM learns from bits on all slices and masks on a few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Tensor
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.learning.schedules import ramp_up, teacher_alpha
from ..slice_model.ada_sam import AdaSam
from ..slice_model.answers import Response, Sight
from .pair_losses import agreement_loss, locate_loss, patch_loss, presence_loss, pseudo_loss
from .pairs import Pairs, known_pairs, some_pairs
from .prompt_curriculum import PromptCurriculum, neutral_boxes, step_generator
from .sight_objective import SightObjective, named_groups
from .teacher import TrainableTeacher, strong_embedding, strong_image


class AdaptObjective(SightObjective):
    """Classifier, decoder, prompt encoder, feedback and adapters learn together.

    loss = classify + segment_weight * segment + negative_weight * negative + lambda(t) * consistency
        + prompt_weight * prompt + locate_weight * locate + patch_weight * patches, with t the number of training
        forwards so far (buffer `step`).

    classify: cross entropy of the bits, before and after feedback. segment: Dice + cross entropy of the true masks,
    those before feedback at `first_weight`. negative: a class that is not on a slice has an empty mask, whatever box
    it is asked for with. consistency: on slices without a mask, Dice + cross entropy of the student's masks of a strong
    view, its box moved, with the teacher's confident pixels; lambda is 0 until `consistency_warmup`, and rises by
    exp(-5 (1 - t/R)^2), R the `consistency_ramp`. prompt: there too, a box moved once more has the
    same answer.
    locate: the maps are logits of the true masks, see `locate_loss`. patches: where the network has a patch map, it
    learns the true masks, and on slices without the activation maps, see `patch_loss`.
    A part whose weight is 0 is not computed and not in the result. A part whose batch has nothing to learn from is 0.

    Batch, N slices: presence [N, P] 0 or 1; mask int64 [N, rows, columns] class index, below 0 on slices without a
    mask; annotated [N] 0 or 1; and embedding [N, C, h, w] or, to encode them here, image [N, 1, rows, columns] in
    [0, 1]. Masks of slices that are not annotated are never read.

    Prompts and views follow from (seed, step, rank), whatever was drawn before.

    Args:
        network: whose `trainable_parameters` learn.
        total_steps: training forwards of the whole stage.
        positive_share: see `SightObjective`.
        classify_weight, segment_weight, first_weight, negative_weight, consistency_weight, prompt_weight,
            locate_weight, patch_weight: as above.
        consistency_warmup, consistency_ramp: shares of the training.
        confidence: a pixel, or a patch, is learnt from where the teacher's probability, or the activation map's, of
            what it says is above this.
        teacher_presence: a class is learnt from the teacher where it gives its presence at least this probability.
        ema_alpha: share of the teacher's weights kept in a step, at the start and at the end.
        shares, jitter, mask_share: see `PromptCurriculum`; mask_share counts where the network takes mask prompts.
        detach_cam: share of the training, at its start, in which masks don't teach the classifier.
        channel_dropout, noise: of the strong view of embeddings, see `strong_embedding`.
        max_pairs, max_negatives: largest number of masks of one kind in a step, drawn; None for all.
        seed: of the run.

    Raises:
        InputError: a setting out of its range.
    """

    def __init__(
        self,
        network: AdaSam,
        *,
        total_steps: int,
        positive_share: Mapping[Any, float] | Sequence[float] | None = None,
        classify_weight: float = 1.0,
        segment_weight: float = 1.0,
        first_weight: float = 0.4,
        negative_weight: float = 0.5,
        consistency_weight: float = 0.5,
        consistency_warmup: float = 0.1,
        consistency_ramp: float = 0.4,
        confidence: float = 0.8,
        teacher_presence: float = 0.7,
        ema_alpha: Sequence[float] = (0.99, 0.999),
        prompt_weight: float = 0.05,
        locate_weight: float = 0.0,
        patch_weight: float = 1.0,
        shares: Sequence[float] = (0.4, 0.3, 0.3),
        jitter: float = 0.1,
        mask_share: float = 0.5,
        detach_cam: float = 0.1,
        channel_dropout: float = 0.2,
        noise: float = 0.1,
        max_pairs: int | None = None,
        max_negatives: int | None = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(network, positive_share)
        weights = {
            "classify": classify_weight,
            "segment": segment_weight,
            "first": first_weight,
            "negative": negative_weight,
            "consistency": consistency_weight,
            "prompt": prompt_weight,
            "locate": locate_weight,
            "patches": patch_weight if network.patch_map is not None else 0.0,
        }
        problems = [f"{name}_weight is {weight}; wanted 0 or more" for name, weight in weights.items() if weight < 0]
        if not any(weight for name, weight in weights.items() if name != "first"):
            problems.append("all weights are 0; wanted one above it")
        low, high = (float(alpha) for alpha in ema_alpha)
        within = {
            "consistency_warmup": consistency_warmup,
            "consistency_ramp": consistency_ramp,
            "confidence": confidence,
            "teacher_presence": teacher_presence,
            "ema_alpha": low,
            "ema_alpha's end": high,
            "detach_cam": detach_cam,
        }
        problems += [f"{name} is {value}; wanted 0 to 1" for name, value in within.items() if not 0 <= value <= 1]
        if not 0 <= channel_dropout < 1 or noise < 0:
            problems.append(f"channel_dropout is {channel_dropout}, noise is {noise}; wanted 0 to below 1, 0 or more")
        counts = {"total_steps": total_steps, "max_pairs": max_pairs, "max_negatives": max_negatives}
        problems += [f"{name} is {n}; wanted 1 or more" for name, n in counts.items() if n is not None and n < 1]
        if problems:
            raise InputError(problems)
        self.total_steps, self.seed = total_steps, seed
        self.weights, self.ema_alpha = weights, (low, high)
        self.consistency_warmup, self.consistency_ramp = consistency_warmup, consistency_ramp
        self.confidence, self.teacher_presence, self.detach_cam = confidence, teacher_presence, detach_cam
        self.channel_dropout, self.noise = channel_dropout, noise
        self.max_pairs, self.max_negatives = max_pairs, max_negatives
        self.curriculum = PromptCurriculum(shares, jitter, mask_share if network.mask_prompt else 0.0)
        self.teacher = TrainableTeacher(network) if consistency_weight > 0 else None
        self.mask_loss = DiceCELoss(sigmoid=True)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def consistency_at(self, step: int) -> float:
        """Return lambda at a step."""
        if step < self.consistency_warmup * self.total_steps:
            return 0.0
        return self.weights["consistency"] * ramp_up(step, self.consistency_ramp * self.total_steps)

    def alpha_at(self, step: int) -> float:
        """Return the share of the teacher's weights that a step keeps: its rise, and fewer where there are few yet."""
        low, high = self.ema_alpha
        return teacher_alpha(step, low + (high - low) * min(step / self.total_steps, 1.0))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        step = int(self.step)
        generator = step_generator(self.seed, step)
        if self.training and self.teacher is not None:
            self.teacher.update(self.network, self.alpha_at(step))
        embedding = self.embed(batch)
        pairs = known_pairs(batch["presence"], batch["mask"], batch["annotated"], self.network.classes)
        detached = step < self.detach_cam * self.total_steps
        response = self.look(embedding, batch, detached)
        losses, weights = {}, dict(self.weights)
        if weights["classify"]:
            losses["classify"] = self.classify(response, batch["presence"] > 0.5)
        if weights["locate"]:
            seen = self.network.planes(response.sight.maps)
            losses["locate"] = locate_loss(seen, pairs.truth, batch["annotated"] > 0.5)
        if weights["patches"]:
            patches, own = self.network.patch_map.patches(embedding), response.sight.cam
            losses["patches"] = patch_loss(patches, pairs, own, self.network.sam.preprocessing, self.confidence)
        losses |= self.learn_from_masks(embedding, response, pairs, detached, generator)
        weights["consistency"] = self.consistency_at(step)
        losses |= self.learn_from_open(embedding, batch, response, pairs.open, weights["consistency"], generator)
        total = sum(weights[name] * loss for name, loss in losses.items())
        if self.teacher is not None:
            losses["consistency_weight"] = total.new_tensor(weights["consistency"])
        if self.training:
            self.step += 1
        return {"loss": total, **losses}

    def look(self, embedding: Tensor, batch: Mapping[str, Tensor], detached: bool) -> Response:
        """Return what the network sees, before feedback and after it, without asking for masks by given boxes."""
        nothing = embedding.new_zeros((len(embedding), self.network.classes))
        # feedback may be given masks
        seen = batch["mask"].masked_fill(batch["annotated"].view(-1, 1, 1) < 0.5, -1)
        response = self.network(
            embedding,
            boxes=nothing[..., None].expand(-1, -1, 4),
            present=nothing.bool(),
            own_mask=False,
            detach_cam=detached,
            true_mask=seen,
        )
        if self.training:
            self.network.observe(response.sight.maps, batch["presence"] > 0.5)
        return response

    def classify(self, response: Response, bits: Tensor) -> Tensor:
        """Return the cross entropy of the bits [N, P], summed over the looks before and after feedback."""
        loss = presence_loss(response.sight.presence, bits, self.positive_share)
        if response.sight is not response.first:
            loss = loss + presence_loss(response.first.presence, bits, self.positive_share)
        return loss

    def learn_from_masks(
        self, embedding: Tensor, response: Response, pairs: Pairs, detached: bool, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses `segment` and `negative`, of the masks that are known."""
        nobody = torch.zeros_like(pairs.positive)
        positive = some_pairs(pairs.positive, self.max_pairs, generator) if self.weights["segment"] else nobody
        negative = some_pairs(pairs.negative, self.max_negatives, generator) if self.weights["negative"] else nobody
        losses = {name: no_loss(response) for name in ("segment", "negative") if self.weights[name]}
        asked = positive | negative
        if not bool(asked.any()):
            return losses
        size, truth = self.network.slice_size, pairs.truth[positive]
        own, masks = self.network.own_boxes(response.sight), self.own_masks(embedding, response.sight, detached)
        boxes = own.clone()
        boxes[positive], _ = self.curriculum.labelled(truth, own[positive], generator)
        boxes[negative] = neutral_boxes(int(negative.sum()), size, generator).to(boxes)
        logits = self.answer(embedding, boxes, masks, asked, generator)
        if bool(positive.any()):
            losses["segment"] = self.mask_loss(logits[positive][:, None], truth[:, None].float())
        if bool(negative.any()):
            losses["negative"] = F.softplus(logits[negative]).mean()
        if response.first_logits is not None and self.weights["segment"] and self.weights["first"]:
            first = pairs.positive & response.first_asked
            if bool(first.any()):
                early = self.mask_loss(response.first_logits[first][:, None], pairs.truth[first][:, None].float())
                losses["segment"] = losses["segment"] + self.weights["first"] * early
        return losses

    def learn_from_open(
        self,
        embedding: Tensor,
        batch: Mapping[str, Tensor],
        response: Response,
        wanted: Tensor,
        weight: float,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the losses `consistency` and `prompt`, of classes [N, P] that are there without a mask.

        Where `weight` is above 0 the teacher is asked and its boxes are moved; else the student's own boxes are, on the
        slices as they are.
        """
        names = ("consistency", "prompt")
        losses = {name: no_loss(response) for name in names if self.weights[name]}
        wanted = some_pairs(wanted, self.max_pairs, generator)
        rows = wanted.any(1)
        if not bool(rows.any()) or not (weight or self.weights["prompt"]):
            return losses
        wanted = wanted[rows]
        sight = Sight(*(part[rows] for part in response.sight))
        masks, view = self.own_masks(embedding[rows], sight, detach=True), embedding[rows]
        if not weight:
            boxes = self.network.own_boxes(sight)
        else:
            some = {name: batch[name][rows] for name in ("embedding", "image") if name in batch}
            taught, trusted = self.ask_teacher(some, wanted)
            boxes, view = taught.boxes, self.strong_view(some, generator)
            # a class is there by its bit: a teacher without a pixel of it is wrong
            taught_masks = taught.logits.sigmoid()
            trusted &= (taught_masks > self.confidence).flatten(2).any(2)
        student = self.answer(view, self.moved(boxes, generator), masks, wanted, generator)
        if weight and bool(trusted.any()):
            losses["consistency"] = pseudo_loss(student[trusted], taught_masks[trusted], self.confidence)
        if self.weights["prompt"]:
            with torch.no_grad():  # both boxes are drawn alike: a gradient through one has the direction of both
                other = self.answer(view, self.moved(boxes, generator), masks, wanted, generator)
            losses["prompt"] = agreement_loss(student[wanted], other[wanted])
        return losses

    def ask_teacher(self, some: Mapping[str, Tensor], wanted: Tensor) -> tuple[Response, Tensor]:
        """Return the teacher's answer to its own prompts on slices as they are, and which classes [N, P] it is sure of.

        Args:
            some: embedding or image of the slices.
            wanted: bool [N, P], the classes it is asked for, by the known bits.
        """
        with self.teacher.in_place(self.network) as network:
            response = network(self.embed(some), present=wanted)
        return response, wanted & (response.sight.presence.sigmoid() >= self.teacher_presence)

    def strong_view(self, some: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Return the embeddings [N, C, h, w] of the strong view of slices."""
        if "embedding" in some:
            return strong_embedding(some["embedding"].float(), generator, self.channel_dropout, self.noise)
        return self.network.encode(strong_image(some["image"], generator))

    def moved(self, boxes: Tensor, generator: torch.Generator) -> Tensor:
        """Return boxes [N, P, 4] with their edges moved at random."""
        return self.curriculum.moved(boxes.flatten(0, 1), self.network.slice_size, generator).view_as(boxes)

    def own_masks(self, embedding: Tensor, sight: Sight, detach: bool) -> Tensor | None:
        """Return the network's own maps as mask prompts, None where none is given."""
        return self.network.own_masks(embedding, sight, detach) if self.curriculum.mask_share else None

    def answer(
        self, embedding: Tensor, boxes: Tensor, masks: Tensor | None, asked: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return logits [N, P, rows, columns]; a drawn share of the prompts comes with the mask prompt."""
        if masks is None:
            return self.network.answer(embedding, boxes, None, asked)
        drawn = self.curriculum.with_mask(asked.numel(), generator).view_as(asked).to(asked.device)
        with_mask = self.network.answer(embedding, boxes, masks, asked & drawn)
        without = self.network.answer(embedding, boxes, None, asked & ~drawn)
        return torch.where(drawn[..., None, None], with_mask, without)

    def param_groups(self, lr: float, head_lr: float | None = None, weight_decay: float = 0.01) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups: SAM's at lr; head and feedback at head_lr (None: five times lr)."""
        names = set(self.network.trainable_parameters())
        tuned = {name for name in names if name.startswith("sam.")}
        head_lr = 5 * lr if head_lr is None else head_lr
        return [
            *named_groups(self.network, tuned, lr, weight_decay),
            *named_groups(self.network, names - tuned, head_lr, weight_decay),
        ]


def no_loss(response: Response) -> Tensor:
    """Return a zero that hangs on the network, so that backward works where a batch holds nothing to learn from."""
    return response.first.presence.float().sum() * 0
