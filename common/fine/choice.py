"""Has the second level learnt enough? If not, the first one alone is what is deployed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import torch
from monai.metrics import compute_dice
from monai.networks.utils import eval_mode
from safetensors.torch import load_file
from torch import Tensor

from ..grid.network import BodyNetwork
from ..levels.network import LocateThenSegment, fine_overlap
from ..levels.windows import probabilities, windowed_rows
from ..tensors import plain
from .cases import UNKNOWN, FineCases

CASES = 3  # of which whole scans, or regions, are segmented
TAUGHT = "what it was taught"
# Least Dice with what it was taught. These are easy voxels of its training cases: level 1 was sure of them, and edges
# are left out. Having no other source, where it differs it has rather not learnt than found level 1's mistake; and all
# that it can win are edges. How much these are worth depends on how coarse level 1 is: this is a limit below which both
# levels were worse than level 1 of any spacing that was tried (docs/clinical.md), not one above which they are better.
LEARNT = 0.75
Found = TypeVar("Found")


class Comparison(NamedTuple):
    """What a second level has learnt, mean Dice over training cases, for run.json.

    by: `TAUGHT`, or the kind of truth by which both levels are compared.
    reached: Dice of both levels together with the truth, or of the fine network with what it was taught.
    wanted: that of the first level alone with the same truth, or `LEARNT`.
    """

    by: str
    reached: float
    wanted: float
    cases: int

    @property
    def refused(self) -> bool:
        """Whether the first level alone is deployed."""
        return self.reached < self.wanted

    def __str__(self) -> str:
        if self.by == TAUGHT:
            found = "has not learnt what level 1 taught it"
            numbers = f"Dice {self.reached:.2f} on {self.cases} training cases, wanted {self.wanted:.2f}"
        else:
            found = "has learnt less than level 1"
            numbers = f"Dice {self.reached:.2f} and {self.wanted:.2f} by the {self.by} of {self.cases} training cases"
        return f"level 2 {found} ({numbers}): level 1 alone is deployed; more fine_epochs may change that"


@torch.no_grad()
def refuse_unlearnt(fine: BodyNetwork, cases: FineCases) -> Comparison:
    """Refuse a fine network that has not learnt enough from its own training cases.

    Where some truth is known, whole labels or masks of slices, it is refused if both levels find less of that than the
    coarse one alone. Both had it, so this tells no more than whether the fine network has learnt enough: begun at
    random it had not learnt 13 organs in 800 steps, and both levels were half as good as the coarse one.
    Where none is known, it is refused if it agrees too little with what it was taught, see `LEARNT`.

    Args:
        fine: trained; `refused` is set.
        cases: of its training, prepared.

    Returns:
        What was found.
    """
    fine.refused = False
    pairs = first_ones(by_truth(fine, cases, case) for case in cases.with_truth())
    if pairs:
        wanted, reached = torch.tensor(pairs).mean(0).tolist()
        comparison = Comparison(cases.known, reached, wanted, len(pairs))
    else:
        agreed = first_ones(by_what_it_was_taught(fine, cases, case) for case in cases.cases)
        # taught of no structure at all, it can only say background
        comparison = Comparison(TAUGHT, sum(agreed) / max(1, len(agreed)), LEARNT, len(agreed))
    fine.refused = comparison.refused
    return comparison


def first_ones(found: Iterable[Found | None]) -> list[Found]:
    """Return the first `CASES` that are not None; no more are made than it takes."""
    return list(islice((one for one in found if one is not None), CASES))


def by_truth(fine: BodyNetwork, cases: FineCases, case: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the mean Dice of the first level alone and of both, where the truth of a case is known.

    None where it shows no structure.
    """
    image = cases.preprocessing({"image": case["image"]})["image"]
    label = cases.truth(case, image)[0]
    if not shows(label):
        return None
    network, found = LocateThenSegment(cases.network, fine), []
    with eval_mode(network):
        for fine.refused in (True, False):
            pred = network(plain(image)[None].to(cases.device))[0].argmax(0).cpu()
            found.append(mean_dice(pred, label, cases.classes))
    return found[0], found[1]


def by_what_it_was_taught(fine: BodyNetwork, cases: FineCases, case: Mapping[str, Any]) -> float | None:
    """Return the mean Dice of the fine network with what a kept case taught; None where that was no structure."""
    kept = load_file(case["path"])
    label = kept["label"][0]
    if not shows(label):
        return None
    pred = torch.empty(label.shape, dtype=torch.long)
    image = kept["image"][None].float().to(cases.device)
    with eval_mode(fine):
        overlap = fine_overlap(label.shape, fine.window)
        for rows, found in windowed_rows(image, probabilities(fine), fine.window, overlap):
            pred[rows] = found[0].argmax(0).cpu()
    return mean_dice(pred, label, cases.classes)


def shows(label: Tensor) -> bool:
    """Return whether there is any structure on the known voxels of a label."""
    return bool(((label > 0) & (label != UNKNOWN)).any())


def mean_dice(pred: Tensor, label: Tensor, classes: int) -> float:
    """Return the mean Dice of the structures that a label [H, W, D] shows, on its known voxels."""
    known = label != UNKNOWN
    pred, label = pred[known], label[known]
    values = [
        compute_dice((pred == number)[None, None], (label == number)[None, None], ignore_empty=True).item()
        for number in range(1, classes)
    ]
    return torch.tensor(values).nanmean().item()
