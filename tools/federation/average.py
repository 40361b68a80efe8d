"""How the server averages: of each round the updates that are what they should be; it says which were not, and why.

NVFLARE copies this file into the job, and what it imports from this room: it needs numpy and NVFLARE alone.
"""

from __future__ import annotations

import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator

from .updates import find_problem, is_count

STEPS = "NUM_STEPS_CURRENT_ROUND"


class SoundAverage(ModelAggregator):
    """Average the changes of the weights that sites send, each by its steps, in the order of the sites' names.

    Args:
        shapes: of each weight, by its name.
        fixed: names of weights that no site may change: those of the grid and the labels.
        least: sites whose update has to be sound in every round.

    Raises:
        RuntimeError: in a round with fewer sound updates; the server ends the job, and keeps the model of the last one.
    """

    def __init__(self, shapes: dict[str, list[int]], fixed: list[str], least: int = 1) -> None:
        super().__init__()
        self.shapes, self.fixed, self.least = shapes, fixed, least
        self.accepted: dict[str, tuple[float, dict[str, np.ndarray]]] = {}
        self.averaged: list[str] = []  # sites of the last average

    def accept_model(self, model: FLModel) -> None:
        """Keep an update for the average, or leave it out with one line that names the site."""
        site, steps = str(model.meta.get("client_name", "?")), model.meta.get(STEPS)
        problem = find_problem(model.params, self.shapes, self.fixed)
        if model.params_type != ParamsType.DIFF:
            problem = f"weights of the kind {model.params_type}; wanted their change, {ParamsType.DIFF}"
        elif not problem and not is_count(steps):
            problem = f"{STEPS} is {steps}; wanted a number above 0"
        if problem:
            self.error(f"left out: site {site}, round {_round(model)}: {problem}")
            return
        self.accepted[site] = (float(steps), {name: np.asarray(model.params[name]) for name in self.shapes})

    def aggregate_model(self) -> FLModel:
        """Return the average of what was kept since `reset_stats`."""
        if len(self.accepted) < self.least:
            names = ", ".join(sorted(self.accepted)) or "none"
            raise RuntimeError(f"sound updates of {len(self.accepted)} sites ({names}); wanted {self.least} or more")
        found = [self.accepted[site] for site in sorted(self.accepted)]
        total = sum(steps for steps, _ in found)
        params = {}
        for name in self.shapes:
            weighed = np.sum([steps * update[name].astype(np.float64) for steps, update in found], axis=0)
            params[name] = np.asarray(weighed / total, dtype=np.float32)
        self.averaged, self.accepted = sorted(self.accepted), {}
        return FLModel(params_type=ParamsType.DIFF, params=params)

    def reset_stats(self) -> None:
        self.accepted = {}


def _round(model: FLModel) -> int | str:
    return "?" if model.current_round is None else model.current_round + 1
