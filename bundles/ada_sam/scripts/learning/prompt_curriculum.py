"""Which prompts the decoder meets while it learns: better ones than its own, its own, and none to speak of."""

from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
import numpy as np
import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.imaging.prompts import bounding_boxes, jitter_boxes

KINDS = ("truth", "cam", "whole")
LEAST_SIDE = 0.2  # of a neutral box, as a share of the slice's side
LEAST_BOX = 3.0  # voxels that the box of a true mask has at least


class PromptCurriculum:
    """Draw the box that a class is asked for with.

    A class with a true mask gets the mask's box, moved at random, its own map's box, or the whole slice's. The last is
    what a slice without a good map comes to; measured on LiteMedSAM, a decoder that has met it also answers poor boxes
    better. A class that is not on a slice gets a neutral box anywhere, and has to answer that nothing is there.

    Args:
        shares: of the three kinds `KINDS`, which sum to 1.
        jitter: largest move of a box's edge, as a share of the box's side, below 0.5.
        mask_share: of the prompts that come with the own map as a mask prompt.

    Raises:
        InputError: a setting out of its range.
    """

    def __init__(self, shares: Sequence[float] = (0.4, 0.3, 0.3), jitter: float = 0.1, mask_share: float = 0.5) -> None:
        shares = [float(share) for share in shares]
        problems = []
        if len(shares) != len(KINDS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
            problems.append(f"shares is {shares}; wanted one for each of {', '.join(KINDS)}, with the sum 1")
        if not 0 <= jitter < 0.5:
            problems.append(f"jitter is {jitter}; wanted 0 or more, below 0.5")
        if not 0 <= mask_share <= 1:
            problems.append(f"mask_share is {mask_share}; wanted 0 to 1")
        if problems:
            raise InputError(problems)
        self.shares, self.jitter, self.mask_share = shares, jitter, mask_share

    def labelled(self, truth: Tensor, own: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return boxes for classes with a true mask.

        Args:
            truth: bool [M, rows, columns], none of them empty.
            own: [M, 4], boxes of the own maps.
            generator: on the CPU.

        Returns:
            boxes: [M, 4] on the device of `own`.
            kinds: int64 [M], index of `KINDS`.
        """
        size = truth.shape[-2:]
        kinds = torch.multinomial(torch.tensor(self.shares), max(len(own), 1), True, generator=generator)[: len(own)]
        # not all of them, because a box is a loop over masks
        boxes = own.clone()
        true = (kinds == 0).nonzero()[:, 0].to(own.device)
        boxes[true] = self.moved(bounding_boxes(truth[true], min_size=LEAST_BOX).to(own), size, generator)
        boxes[(kinds == 2).to(own.device)] = own.new_tensor([0, 0, *size])
        return boxes, kinds

    def moved(self, boxes: Tensor, size: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return boxes [M, 4] with each edge moved at random, inside a slice of `size`."""
        return jitter_boxes(boxes, 2, size, generator, self.jitter)[1]

    def with_mask(self, count: int, generator: torch.Generator) -> Tensor:
        """Return which of `count` prompts come with a mask prompt, bool [count] on the CPU."""
        return torch.rand(count, generator=generator) < self.mask_share


def neutral_boxes(count: int, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return boxes [count, 4] float32 of any size from `LEAST_SIDE` of the slice's sides up, anywhere inside it."""
    limit = torch.tensor([float(size[0]), float(size[1])])
    side = (LEAST_SIDE + (1 - LEAST_SIDE) * torch.rand(count, 2, generator=generator)) * limit
    first = torch.rand(count, 2, generator=generator) * (limit - side)
    return torch.cat([first, torch.minimum(first + side, limit)], dim=1)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return a generator on the CPU for one training step of this process, the same whenever the step is run."""
    state = np.random.SeedSequence([seed, step, idist.get_rank()]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))
