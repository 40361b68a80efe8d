"""ADA-SAM: a SAM whose image embedding also says which classes are on a slice and where, and so prompts itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.imaging.cam import CamHead
from ..common.launch.words import truth
from ..common.precision import bf16_autocast
from ..common.sam.adapters.registry import adapter_parameters, adapter_problems, add_adapter
from ..common.sam.build import SamModel
from ..common.sam.features.volume import crop_padding
from ..common.sam.patch_map import PatchMap
from .answers import Response, Sight
from .average_head import AverageHead
from .feedback import TRUTH, GradientFeedback, feedback_objective, read_objective, slice_gradient
from .map_range import CAM_RANGES, RUNNING, MapRange
from .slice_decoder import SliceDecoder
from .slice_prompts import batch_boxes, mask_prompt

HEADS = ("cam", "mlp")
MASK, PATCH_MAP = "mask", "patch_map"
DENSE_PROMPTS = (MASK, PATCH_MAP)
NOT_ASKED = -10.0  # logit of a class that was not asked about


class AdaSam(MapRange):
    """A frozen image encoder (with low-rank adapters or without), a classifier on its embedding, and a mask decoder.

    What is trained is named by `trainable_parameters`; the rest of SAM needs no gradient, and all of it stays in eval
    mode.

    Args:
        sam: with its base weights, or those of a merged checkpoint.
        slice_size: rows and columns of every slice, as it lies in its volume's grid.
        classes: P, the foreground labels.
        hidden: channels of the classifier's hidden layer.
        pooling: of the "cam" head, see `CamHead`.
        feedback: False; True or "evidence" for gradient feedback without labels; "gt" to take the true masks of
            training slices where they are given.
        lora_rank: of the adapters on the encoder; 0 for none.
        presence_threshold: a class is asked about where its probability is above it.
        mask_prompt: own maps are given to the decoder as mask prompts too.
        head: "cam" (a convolution whose maps are pooled) or "mlp" (as released).
        cam_range: how maps come to [0, 1], see `MapRange`: "running" by the range that `observe` follows, or "sigmoid"
            where they have learnt to be logits of the masks.
        box_threshold, box_share, box_padding: see `cam_boxes`.
        momentum: of the maps' running range.
        batch_size: prompts decoded at once.
        amp: bfloat16 autocast of encoder and decoder; None follows `bf16_supported`.
        adapter: kind of the adapters, a key of `ADAPTERS`.
        dense_prompt: which own maps `mask_prompt` gives: the classifier's as a "mask", or a "patch_map" of its own.

    Raises:
        InputError: a setting that is none of the above.
    """

    def __init__(
        self,
        sam: SamModel,
        slice_size: Sequence[int],
        classes: int,
        hidden: int = 128,
        pooling: str = "mean",
        feedback: bool | str = False,
        lora_rank: int = 0,
        presence_threshold: float = 0.5,
        mask_prompt: bool = True,
        head: str = "cam",
        cam_range: str = RUNNING,
        box_threshold: float = 0.4,
        box_share: float = 0.2,
        box_padding: float = 0.05,
        momentum: float = 0.95,
        batch_size: int = 16,
        amp: bool | None = None,
        adapter: str = "lora",
        dense_prompt: str = MASK,
    ) -> None:
        mask_prompt, problems = truth("mask_prompt", mask_prompt), adapter_problems(adapter)
        if head not in HEADS:
            problems.append(f"head: found {head!r}, wanted one of {', '.join(HEADS)}")
        if cam_range not in CAM_RANGES:
            problems.append(f"cam_range: found {cam_range!r}, wanted one of {', '.join(CAM_RANGES)}")
        try:
            objective = read_objective(feedback)
        except InputError as error:
            problems += error.problems
        if classes < 1 or len(slice_size) != 2:
            problems.append(f"found {classes} classes on slices {tuple(slice_size)}, wanted at least 1 and two sides")
        if dense_prompt not in DENSE_PROMPTS:
            problems.append(f"dense_prompt: found {dense_prompt!r}, wanted one of {', '.join(DENSE_PROMPTS)}")
        if dense_prompt == PATCH_MAP and not mask_prompt:
            problems.append(f"dense_prompt: found {PATCH_MAP} and mask_prompt false, wanted mask_prompt true")
        if mask_prompt and dense_prompt != PATCH_MAP and not sam.prompts.masks:
            problems.append(f"mask_prompt: found {sam.name}, which takes no masks; wanted mask_prompt false")
        if problems:
            raise InputError(problems)
        super().__init__(slice_size, classes, cam_range, momentum)
        self.sam, self.presence_threshold, self.mask_prompt = sam, presence_threshold, mask_prompt
        self.boxes_by = {"threshold": box_threshold, "share": box_share, "padding": box_padding}
        self.amp = amp
        self.settings = {"head": head, "hidden": hidden, "pooling": pooling, "lora_rank": lora_rank}
        self.settings |= {"cam_range": cam_range, "feedback": objective, "mask_prompt": mask_prompt}
        self.settings["presence_threshold"] = presence_threshold
        channels = sam.image_encoder.neck[0].out_channels
        if head == "cam":
            self.head: nn.Module = CamHead(channels, classes, hidden, pooling, bias=True)
        else:
            self.head = AverageHead(channels, classes, hidden)
        self.objective, self.feedback = objective, GradientFeedback(channels) if objective else None
        if lora_rank:
            add_adapter(adapter, sam.image_encoder, lora_rank)
        self.patch_map = None
        if dense_prompt == PATCH_MAP:
            self.patch_map = PatchMap(sam, classes)
            self.settings["dense_prompt"] = dense_prompt  # runs of before have no such line, and go on
        self.decoder = SliceDecoder(sam, self.patch_map, batch_size=batch_size, amp=amp)
        self.register_buffer("extents", torch.zeros(classes, 2))
        wanted = set(self.trainable_parameters())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in wanted)

    def trainable_parameters(self) -> list[str]:
        """Return the names of what is learnt: head, feedback, patch map, prompt encoder, mask decoder, adapters."""
        own = ("head.", "feedback.", "patch_map.", "sam.prompt_encoder.", "sam.mask_decoder.")
        adapters = set(adapter_parameters(self))
        return [name for name, _ in self.named_parameters() if name.startswith(own) or name in adapters]

    def adapted_tensors(self) -> list[str]:
        """Return the names of all that differs from the base SAM: `trainable_parameters`, the maps' range, extents."""
        return [*self.trainable_parameters(), "cam_low", "cam_high", "extents"]

    def note_extents(self, bits: Iterable[Tensor]) -> None:
        """Note on how many slices of a volume each class is, at least and at most, by the bits [P, n] of volumes."""
        counts = torch.stack([one.sum(1) for one in bits])  # [volumes, P]
        self.extents.copy_(torch.stack([counts.amin(0), counts.amax(0)], 1))

    @property
    def covered(self) -> tuple[float, float]:
        """Shares of the encoder's rows and columns that a slice fills; the rest is padding."""
        rows, columns = self.sam.preprocessing.resized_size(*self.slice_size)
        return rows / self.sam.preprocessing.image_size, columns / self.sam.preprocessing.image_size

    @property
    def cell(self) -> float:
        """Voxels of the slice under one cell of a map, along the side where they are more."""
        tokens = self.sam.preprocessing.image_size / self.sam.stride
        return max(size / (share * tokens) for size, share in zip(self.slice_size, self.covered, strict=True))

    @property
    def whole_slice(self) -> Tensor:
        """The box [4] around a whole slice."""
        return self.cam_low.new_tensor([0, 0, *self.slice_size])

    def encode(self, slices: Tensor) -> Tensor:
        """Turn slices [N, 1 or 3, rows, columns] in [0, 1] into embeddings [N, C, h, w] float32, padding included."""
        prepared = self.sam.preprocessing(slices.float())
        with bf16_autocast(slices.device, self.amp):
            embedding = self.sam.image_encoder(prepared)
        return embedding.float()

    def look(self, embedding: Tensor) -> Sight:
        """Classify slices by their embedding [N, C, h, w]."""
        return self._sight(crop_padding(embedding, self.covered))

    def _sight(self, features: Tensor) -> Sight:
        presence, maps = self.head(features)
        return Sight(presence.float(), maps, self.normalise(maps))

    def own_boxes(self, sight: Sight) -> Tensor:
        """Return the boxes [N, P, 4] of the maps; the whole slice where a map gives none."""
        return batch_boxes(sight.cam, **self.boxes_by, min_size=2 * self.cell)[0]

    def ask(self, embedding: Tensor, boxes: Tensor, masks: Tensor | None = None) -> Tensor:
        """Segment slices by one prompt each, whatever class it is of; see `answer`.

        Args:
            embedding: [N, C, h, w], padding included.
            boxes: [N, 4] in voxels.
            masks: logits [N, rows, columns], or bool [N, h / 2, w / 2] of the patch map, or None.

        Returns:
            logits [N, rows, columns] float32.
        """
        owners = torch.arange(len(embedding), device=embedding.device)
        return self.decoder.logits(embedding, owners, self.slice_size, boxes, masks)

    def answer(
        self, embedding: Tensor, boxes: Tensor | None, masks: Tensor | None = None, asked: Tensor | None = None
    ) -> Tensor:
        """Segment classes on slices by one prompt each; differentiable by weights, embedding and mask prompts.

        Args:
            embedding: [N, C, h, w], padding included.
            boxes: [N, P, 4] in voxels, or None where masks are given.
            masks: logits [N, P, rows, columns], or bool [N, P, h / 2, w / 2] of the patch map, or None.
            asked: bool [N, P]; None asks about all classes.

        Returns:
            logits [N, P, rows, columns] float32, -10 where not asked. Where the slice is finer than the decoder's
            answer the logits are interpolated, where it is coarser the probabilities are averaged.

        Raises:
            InputError: neither boxes nor masks, or prompts of another shape.
        """
        wanted = (len(embedding), self.classes)
        given = {
            "boxes": (boxes, (*wanted, 4)),
            "masks": (masks, (*wanted, *self._mask_size(embedding, masks))),
            "asked": (asked, wanted),
        }
        problems = [
            f"answer: found {name} {tuple(value.shape)}, wanted {shape}"
            for name, (value, shape) in given.items()
            if value is not None and tuple(value.shape) != shape
        ]
        if boxes is None and masks is None:
            problems.append("answer: found neither boxes nor masks, wanted one of them at least")
        if problems:
            raise InputError(problems)
        device, flat = embedding.device, wanted[0] * wanted[1]
        index = torch.arange(flat, device=device) if asked is None else asked.to(device).flatten().nonzero()[:, 0]
        result = embedding.new_full((flat, *self.slice_size), NOT_ASKED, dtype=torch.float32)
        if len(index):
            owners = index.div(self.classes, rounding_mode="floor")
            prompts = [None if x is None else x.to(device).flatten(0, 1)[index] for x in (boxes, masks)]
            result = result.index_copy(0, index, self.decoder.logits(embedding, owners, self.slice_size, *prompts))
        return result.unflatten(0, wanted)

    def forward(
        self,
        embedding: Tensor,
        boxes: Tensor | None = None,
        present: Tensor | None = None,
        masks: Tensor | None = None,
        own_mask: bool | None = None,
        detach_cam: bool = False,
        feedback_enabled: bool = True,
        true_mask: Tensor | None = None,
    ) -> Response:
        """Look at slices, look again with feedback where there is any, and segment.

        The first look and what it segments for the feedback never depend on `boxes`, `present` or `masks`: they are
        not there at a site, and the second look would learn to read them off the gradient.

        Args:
            embedding: [N, C, h, w], padding included.
            boxes: [N, P, 4] in voxels; None takes those of the own maps.
            present: bool [N, P], the classes to ask about; None takes the own decision.
            masks: mask prompts, see `answer`; None leaves it to `own_mask`.
            own_mask: give `own_masks` as mask prompts; None follows `mask_prompt` where the boxes are own as well.
            detach_cam: let no gradient of the masks reach the classifier through the mask prompts.
            feedback_enabled: False leaves out the feedback.
            true_mask: int64 [N, rows, columns], class index, -1 on slices without: for feedback "gt", in training.

        Raises:
            InputError: feedback under `torch.inference_mode`, which allows no gradients, or prompts of another shape.
        """
        first = self.look(embedding)
        sight, first_logits, first_asked = first, None, None
        if self.feedback is not None and feedback_enabled:
            truth = true_mask if self.objective == TRUTH and self.training else None
            first_logits, first_asked, sight = self._feed_back(embedding, first, detach_cam, truth)
        asked = self._presence(sight) if present is None else present.bool().to(embedding.device)
        if own_mask is None:
            own_mask = self.mask_prompt and boxes is None
        if boxes is None:
            boxes = self.own_boxes(sight)
        if masks is None and own_mask:
            masks = self.own_masks(embedding, sight, detach_cam)
        logits = self.answer(embedding, boxes, masks, asked)
        return Response(first, sight, first_logits, logits, boxes, asked, first_asked)

    def _presence(self, sight: Sight) -> Tensor:
        return sight.presence.detach().sigmoid() > self.presence_threshold

    def own_masks(self, embedding: Tensor, sight: Sight, detach: bool = False) -> Tensor:
        """Return the own maps as mask prompts for `answer`: the classifier's, or those of the patch map.

        No gradient of the masks reaches the patch map, and with `detach` none reaches the classifier.
        """
        if self.patch_map is not None:
            return self.patches(embedding)
        return mask_prompt(sight.cam.detach() if detach else sight.cam)

    @torch.no_grad()
    def patches(self, embedding: Tensor) -> Tensor:
        """Return in which patches the patch map sees the classes on slices [N, C, h, w], bool [N, P, h / 2, w / 2]."""
        return self.patch_map.patches(embedding) > 0

    def _mask_size(self, embedding: Tensor, masks: Tensor | None) -> tuple[int, int]:
        if masks is None or masks.dtype != torch.bool:
            return self.slice_size
        return embedding.shape[2] // 2, embedding.shape[3] // 2

    def _feed_back(
        self, embedding: Tensor, first: Sight, detach_cam: bool, true_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Sight]:
        """Return the first masks, which of them were asked for, and the second look."""
        if torch.is_inference_mode_enabled():
            raise InputError("feedback: found torch.inference_mode, wanted torch.no_grad, or feedback off")
        learning = torch.is_grad_enabled()
        # a slice where nothing seems to be asks about what is likeliest
        likeliest = F.one_hot(first.presence.argmax(1), self.classes).bool()
        asked = self._presence(first) | likeliest
        with torch.enable_grad():
            leaf = embedding.detach().clone().requires_grad_()  # the encoder takes no part
            masks = self.own_masks(leaf, first, detach_cam) if self.mask_prompt else None
            logits = self.answer(leaf, self.own_boxes(first), masks, asked)
            gradient = slice_gradient(feedback_objective(logits, asked, true_mask), leaf, keep_graph=learning)
        features = crop_padding(embedding, self.covered)
        sight = self._sight(self.feedback(features, crop_padding(gradient, self.covered)))
        return logits if learning else logits.detach(), asked, sight
