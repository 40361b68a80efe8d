"""Does the second level know more than the first? If not, the first one alone is what is deployed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from monai.metrics import compute_dice
from monai.networks.utils import eval_mode
from torch import Tensor

from ..grid.network import BodyNetwork
from ..levels.network import LocateThenSegment
from ..tensors import plain
from .cases import FineCases

CASES = 3  # of which whole scans are segmented by both levels


class Comparison(NamedTuple):
    """Mean Dice of labelled training cases, for run.json."""

    first_level: float
    both_levels: float
    cases: int

    @property
    def refused(self) -> bool:
        """Whether the first level alone finds more."""
        return self.both_levels < self.first_level

    def __str__(self) -> str:
        return (
            f"level 2 has learnt less than level 1 (Dice {self.both_levels:.2f} and {self.first_level:.2f} on "
            f"{self.cases} labelled training cases): level 1 alone is deployed; more fine_epochs may change that"
        )


@torch.no_grad()
def refuse_worse(fine: BodyNetwork, cases: FineCases) -> Comparison | None:
    """Refuse a fine network that finds less than the coarse one of the labels that it has learnt from.

    Both had these labels, so this tells no more than whether the fine network has learnt enough: with 13 organs and the
    default's steps it had not, and the answers of both levels were half as good as those of the coarse one.

    Args:
        fine: trained; `refused` is set.
        cases: of its training.

    Returns:
        What was found; None where no case has a label to compare by, and nothing is refused.
    """
    fine.refused = False
    labeled = [case for case in cases.wanted() if "label" in case][:CASES]
    if not labeled:
        return None
    network, found = LocateThenSegment(cases.network, fine), []
    for case in labeled:
        image = cases.preprocessing({"image": case["image"]})["image"]
        label = cases.truth(case, image)[0].long()
        pair = []
        with eval_mode(network):
            for fine.refused in (True, False):
                pred = network(plain(image)[None].to(cases.device))[0].argmax(0).cpu()
                pair.append(_dice(pred, label, cases.classes))
        found.append(pair)
    first, both = torch.tensor(found).nanmean(0).tolist()
    comparison = Comparison(first, both, len(found))
    fine.refused = comparison.refused
    return comparison


def _dice(pred: Tensor, label: Tensor, classes: int) -> float:
    values = [
        compute_dice((pred == number)[None, None], (label == number)[None, None], ignore_empty=True).item()
        for number in range(1, classes)
    ]
    return torch.tensor(values).nanmean().item()
