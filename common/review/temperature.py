"""One temperature of a network's probabilities: fitted to labelled cases not learnt from, read where it serves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.calibration import calibration_binning
from torch import Tensor

from ..launch.words import truth
from .calibration import Bins, Calibration
from .knowledge import read_knowledge
from .voxels import Voxels

TEMPERATURES = 2.0 ** (np.arange(-48, 73) / 24)  # a quarter to 8, by 3 %
AS_IT_IS = 48  # which of them is 1
FEWEST = 3  # cases
BINS = 15


def calibrate(cases: Sequence[Voxels], label_values: Sequence[int]) -> Calibration:
    """Return the temperature by which what is true is likeliest, all voxels of a case counting (Guo et al. 2017).

    One for all classes, so that the largest probability stays that of the same class. Each case is judged by the
    temperature of the others; where that doesn't lower both the loss and the expected calibration error it isn't used.

    Args:
        cases: three or more; of fewer nothing is said.
        label_values: value of each class, background first.
    """
    if len(cases) < FEWEST:
        return Calibration()
    losses = np.array([[_loss(case, float(t)) for t in TEMPERATURES] for case in cases])
    others = (losses.sum(0) - losses).argmin(1)  # of all cases but one
    best = float(TEMPERATURES[losses.sum(0).argmin()])
    nll = float(losses[:, AS_IT_IS].mean()), float(np.take_along_axis(losses, others[:, None], 1).mean())
    before = _reliability(cases, [1.0] * len(cases), label_values)
    after = _reliability(cases, [float(TEMPERATURES[number]) for number in others], label_values)
    found = Calibration(best, best, len(cases), nll, before, after)
    helps = nll[1] < nll[0] and found.ece[1] < found.ece[0]
    found.temperature = best if helps else 1.0
    return found


def _loss(case: Voxels, temperature: float) -> float:
    logs = torch.log_softmax(case.logs / temperature, 1)
    return float(-(logs.gather(1, case.truth[:, None])[:, 0] * case.weight).sum() / case.weight.sum())


def _reliability(
    cases: Sequence[Voxels], temperatures: Sequence[float], label_values: Sequence[int]
) -> dict[int, Bins]:
    said = [torch.softmax(case.logs / t, 1) for case, t in zip(cases, temperatures, strict=True)]
    result = {}
    for number, value in enumerate(label_values[1:], start=1):
        own = [case.around == number for case in cases]
        probability = torch.cat([p[near, number] for p, near in zip(said, own, strict=True)])
        came = torch.cat([case.truth[near] == number for case, near in zip(cases, own, strict=True)])
        if len(came):
            result[int(value)] = _bins(probability, came)
    return result


def _bins(probability: Tensor, came: Tensor) -> Bins:
    columns = calibration_binning(probability[None, None], came[None, None].float(), num_bins=BINS)
    rows = zip(*(column[0, 0].tolist() for column in columns), strict=True)
    return [(said, share, int(count)) for said, share, count in rows if count]


class ModelTemperature:
    """What a model's log-probabilities are to be divided by, as its training has found; 1 where nothing is known.

    Said once. Asked for every scan, so that a model that is replaced while a server runs is served by its own.

    Args:
        model: model.pt; review.json lies beside it.
        wanted: False: 1.
    """

    def __init__(self, model: str, wanted: bool = True) -> None:
        self.model, self.wanted = model, truth("calibrate", wanted)
        self._said = ""

    def __call__(self) -> float:
        calibration = read_knowledge(self.model).calibration if self.wanted else Calibration()
        said = calibration.describe()
        if said != self._said:
            print(said, flush=True)
        self._said = said
        return calibration.temperature
