"""A frozen SAM encoder and the parts behind it, chosen by name, that segment slices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.launch.words import optional, truth
from ..common.precision import bf16_autocast
from ..common.sam.adapters.registry import adapter_parameters, add_adapter
from ..common.sam.build import SamModel
from ..common.sam.features.volume import crop_padding
from .answer import Answer
from .depth import MIXERS, REACH, repeat_ends
from .hierarchical_decoder import HierarchicalDecoder
from .prompted_decoder import PromptedDecoder
from .prompts import GENERATORS
from .side_branch import SideBranch
from .token_decoder import TokenDecoder
from .two_decoders import TwoDecoders

TOKENS, FULL, HIERARCHICAL, SAM, FROZEN = "tokens", "full", "hierarchical", "sam", "frozen"
DECODERS = (TOKENS, FULL, HIERARCHICAL, SAM, FROZEN)
PROMPTED = (SAM, FROZEN)  # those that are asked by prompts
TWINS = (TOKENS, FULL)  # those that there can be two of


class AdaptedSam(nn.Module):
    """Segment slices of all classes at once; what is trained stands behind the encoder's features.

    Args:
        sam: with its base weights; its own parameters need no gradient, but for adapters in the encoder.
        classes: K, background included.
        decoder: "tokens" (a token a class), "full" (the same at the encoder's own pixels), "hierarchical" (H-SAM's
            second stage), or, with prompts, "sam" (its own decoder, which learns) and "frozen" (which doesn't).
        prompts: "dense", "patch_map" or "self", see `GENERATORS`; None with a decoder that takes none.
        self_prompt: of "self", see `SelfPrompts`.
        depth: "slab", "slab3d" or "attention", see `MIXERS`; None: every slice by itself.
        side_branch: see `SideBranch`.
        decoders: 1, or 2 of "tokens" or "full", see `TwoDecoders`.
        encoder_adapter: kind of adapters inside the encoder, a key of `ADAPTERS`; None: features are those of the
            frozen one, and can be kept.
        adapter_rank: of these.
        amp: bfloat16 autocast; None follows `bf16_supported`.

    Raises:
        InputError: a name that is none of the above, or parts that don't fit together.
    """

    def __init__(
        self,
        sam: SamModel,
        classes: int,
        decoder: str = FULL,
        prompts: str | None = None,
        self_prompt: str = "both",
        depth: str | None = None,
        side_branch: bool = False,
        decoders: int = 1,
        encoder_adapter: str | None = None,
        adapter_rank: int = 16,
        amp: bool | None = None,
    ) -> None:
        super().__init__()
        prompts, depth, encoder_adapter = optional(prompts), optional(depth), optional(encoder_adapter)
        if problems := parts_problems(decoder, prompts, depth, decoders):
            raise InputError(problems)
        self.sam, self.classes, self.amp = sam, int(classes), amp
        self.names: dict[str, Any] = {
            "decoder": decoder,
            "prompts": prompts,
            "depth": depth,
            "encoder_adapter": encoder_adapter,
        }
        if decoders == 2:
            self.names["decoders"] = 2
        self.settings: dict[str, Any] = {**self.names, "self_prompt": self_prompt, "adapter_rank": adapter_rank}
        channels = sam.prompt_encoder.no_mask_embed.weight.shape[1]
        self.mixer = MIXERS[depth](channels) if depth else None
        self.branch = SideBranch(sam) if truth("side_branch", side_branch) else None
        self.settings["side_branch"] = self.branch is not None
        self.prompts: nn.Module | None = None
        if prompts:
            own = {"way": self_prompt} if prompts == "self" else {}
            self.prompts = GENERATORS[prompts](sam, self.classes - 1, **own)
        if decoder in PROMPTED:
            self.decoder: nn.Module = PromptedDecoder(sam, decoder == FROZEN)
        elif decoder == HIERARCHICAL:
            self.decoder = HierarchicalDecoder(sam, self.classes)
        else:
            self.decoder = (TwoDecoders if decoders == 2 else TokenDecoder)(sam, self.classes, decoder == FULL)
        self.adapted, self.reach = encoder_adapter is not None, REACH if depth else 0
        if encoder_adapter:
            for name in add_adapter(encoder_adapter, sam.image_encoder, int(adapter_rank)):
                sam.image_encoder.get_parameter(name).requires_grad_(True)

    def trained(self) -> list[str]:
        """Return the names of the parameters that learn."""
        adapters = set(adapter_parameters(self))
        return [name for name, p in self.named_parameters() if p.requires_grad and (_own(name) or name in adapters)]

    @property
    def trained_count(self) -> int:
        """How many numbers learn."""
        return sum(self.get_parameter(name).numel() for name in self.trained())

    def encode(self, planes: Tensor) -> Tensor:
        """Turn slices [N, 1 or 3, rows, columns] in [0, 1] into embeddings [N, C, h, w], padding included."""
        with bf16_autocast(planes.device, self.amp):
            return self.sam.image_encoder(self.sam.preprocessing(planes.float())).float()

    def forward(self, embedding: Tensor, planes: Tensor) -> Answer:
        """Segment slices, each with its neighbours.

        Args:
            embedding: [N, T, C, h, w], of `REACH` slices to each side of a slice and itself; T is 1 without a mixer.
            planes: [N, 1 or 3, rows, columns] in [0, 1], the slice itself.

        Returns:
            an `Answer` whose maps cover the encoder's whole square, see `to_slice`.
        """
        return self._answer(self._mix(embedding), planes)

    def prepare(self, embedding: Tensor, planes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what `ask` takes of slices, see `forward`: features [N, C, h, w], and the side branch's detail."""
        features = self._mix(embedding)
        if self.branch is None:
            return features, None
        return self.branch(self.sam.preprocessing(planes.float()), features)

    def ask(self, which: int, features: Tensor, detail: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """Return the logits of one of two decoders, see `TwoDecoders.ask`."""
        return self.decoder.ask(which, features, self.sam.prompt_encoder.get_dense_pe(), detail, places)

    def _mix(self, embedding: Tensor) -> Tensor:
        if self.mixer is not None:
            embedding = self.mixer(embedding.transpose(1, 2)).transpose(1, 2)
        return embedding[:, embedding.shape[1] // 2]

    def _answer(self, features: Tensor, planes: Tensor) -> Answer:
        position = self.sam.prompt_encoder.get_dense_pe()
        square = None
        if self.branch is not None or self.names["prompts"] == "dense":
            square = self.sam.preprocessing(planes.float())
        detail = None
        if self.branch is not None:
            features, detail = self.branch(square, features)
        if self.prompts is None:
            return self.decoder(features, position, detail)
        return self.decoder(features, position, self.prompts(square, features))

    @torch.no_grad()
    def segment(self, embeddings: Tensor, planes: Tensor, at_once: int = 8) -> Tensor:
        """Return the probabilities [K, n, rows, columns] float32 of all slices of a volume, in eval mode.

        Args:
            embeddings: [n, C, h, w] in their order.
            planes: [n, 1 or 3, rows, columns].
        """
        training = self.training
        self.eval()
        device = next(self.decoder.parameters()).device
        if self.mixer is not None:
            volume = repeat_ends(embeddings.to(device).transpose(0, 1)[None])
            embeddings = self.mixer(volume)[0, :, REACH : volume.shape[2] - REACH].transpose(0, 1)
        found = []
        for some, seen in zip(embeddings.split(at_once), planes.split(at_once), strict=True):
            logits = self._answer(some.to(device), seen.to(device)).logits
            found.append(self.to_slice(logits, seen.shape[2:]).float().exp().cpu())
        self.train(training)
        return torch.cat(found).transpose(0, 1)

    def to_slice(self, logits: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
        """Return logits [N, K, m, m] of the encoder's square as log-probabilities [N, K, rows, columns] of the slices.

        Where the slice is finer, logits are interpolated; where it is coarser, probabilities are averaged.
        """
        side, resized = self.sam.preprocessing.image_size, self.sam.preprocessing.resized_size(*size)
        logits = crop_padding(logits.float(), (resized[0] / side, resized[1] / side))
        finer = tuple(max(have, want) for have, want in zip(logits.shape[-2:], size, strict=True))
        if tuple(logits.shape[-2:]) != finer:
            logits = F.interpolate(logits, finer, mode="bilinear", align_corners=False)
        logs = logits.log_softmax(1)
        if finer == tuple(size):
            return logs
        shares = F.interpolate(logs.exp(), tuple(size), mode="bilinear", align_corners=False, antialias=True)
        return shares.clamp_min(1e-7).log()


def parts_problems(decoder: str, prompts: str | None, depth: str | None, decoders: int = 1) -> list[str]:
    """Return what is wrong with the names of parts, a line each."""
    problems = []
    parts = (("decoder", decoder, DECODERS), ("prompts", prompts, GENERATORS), ("depth", depth, MIXERS))
    for name, given, known in parts:
        if given is not None and given not in known:
            problems.append(f"{name} is {given!r}; wanted one of {', '.join(known)}")
    if decoder in PROMPTED and prompts is None:
        problems.append(f"prompts is null; wanted one of {', '.join(GENERATORS)} where decoder is {decoder}")
    if decoder in DECODERS and decoder not in PROMPTED and prompts is not None:
        problems.append(f"prompts is {prompts!r}; wanted null where decoder is {decoder}, or decoder sam or frozen")
    if decoders not in (1, 2):
        problems.append(f"decoders is {decoders!r}; wanted 1 or 2")
    if decoders == 2 and decoder in DECODERS and decoder not in TWINS:
        problems.append(f"decoders is 2; wanted 1 where decoder is {decoder}, or decoder {' or '.join(TWINS)}")
    return problems


def _own(name: str) -> bool:
    return not name.startswith("sam.")
