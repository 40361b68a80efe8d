"""Prompts that are learnt: what a frozen SAM is told of a class, made from its own features of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from ..common.errors import InputError
from ..common.imaging.prompts import FOREGROUND, mask_logits
from ..common.sam.prompted_slices import PromptedSlices, SlicePrompts

LEARNED = "learned"
TOKENS = 2  # a prompt is, as a box is for SAM
WIDTH = 64  # of the convolutions
STEPS, BATCH, RATE = 150, 8, 1e-3


class LearnedPrompt(nn.Module):
    """Two tokens for each class, in the place of a box's (KnowSAM, Huang et al. 2412.13742).

    Two strided convolutions, which all classes share, their mean over the slice, and two layers for each class.

    Args:
        classes: K - 1, without the background.
        channels: C of SAM's features and of its tokens.

    forward: embedding [P, C, h, w] of the slices that are asked about, classes [P] int64 -> [P, 2, C].
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.seen = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.told = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, TOKENS * channels))
            for _ in range(classes)
        )
        self.channels = channels

    def forward(self, embedding: Tensor, classes: Tensor) -> Tensor:
        seen = self.seen(embedding)
        told = torch.stack([self.told[int(k)](one) for k, one in zip(classes.tolist(), seen, strict=True)])
        return told.unflatten(1, (TOKENS, self.channels))


@dataclass(frozen=True)
class Lesson:
    """A labelled volume as the prompts learn from it.

    embedding: [slices, C, s, s]; prompt: probabilities [K, H, W, D] such as a specialist has; label: [K, H, W, D].
    """

    embedding: Tensor
    prompt: Tensor
    label: Tensor


def learn_prompt(slices: PromptedSlices, lessons: Sequence[Lesson], seed: int = 0, steps: int = STEPS) -> LearnedPrompt:
    """Return prompts that make a frozen SAM, beside the mask that it is given, answer with the labels.

    Args:
        slices: of the SAM.
        lessons: one at least; slices on which prompt or label shows a class are learnt from.
        seed: of the weights and of the draw of slices.

    Raises:
        InputError: no such slice.
    """
    axis = slices.slice_axis
    volumes = [(one.prompt.movedim(axis, 1), one.label.movedim(axis, 1)) for one in lessons]  # [K, slices, H, W]
    places = [
        (number, k, place)
        for number, (prompt, label) in enumerate(volumes)
        for k, place in (torch.maximum(prompt, label)[1:] > FOREGROUND).flatten(2).any(2).nonzero().tolist()
    ]
    if not places:
        raise InputError("prompt: learned: no labelled volume shows a class to learn from; wanted one at least")
    with torch.random.fork_rng(devices=[]):  # whatever is built next begins alike
        torch.manual_seed(seed)
        learned = LearnedPrompt(len(lessons[0].label) - 1, lessons[0].embedding.shape[1]).to(slices.device)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(learned.parameters(), lr=RATE)
    loss_of = DiceCELoss(sigmoid=True)
    for _ in range(steps):
        number, _, _ = places[int(torch.randint(len(places), (1,), generator=generator))]
        own = [place for place in places if place[0] == number]  # a batch has slices of one size
        drawn = torch.randperm(len(own), generator=generator)[:BATCH].tolist()
        classes, where = (torch.tensor([own[n][part] for n in drawn]) for part in (1, 2))
        prompt, label = (volume[1:][classes, where].float() for volume in volumes[number])  # [P, H, W]
        embedding = lessons[number].embedding[where].to(slices.device)
        asked = SlicePrompts(torch.arange(len(where)), masks=mask_logits(prompt), tokens=learned(embedding, classes))
        with torch.enable_grad():
            said = slices.answer(embedding, asked, tuple(label.shape[1:]))
            loss = loss_of(mask_logits(said)[:, None], label[:, None].to(said))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return learned.requires_grad_(False).eval()
