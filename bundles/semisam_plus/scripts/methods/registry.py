"""The base methods by their names: a new one is a file and a line here."""

from __future__ import annotations

import difflib
from typing import Any

from ..common.errors import InputError
from ..generalists.answers import GeneralistAnswers
from ..generalists.generalist_loss import GeneralistLoss
from ..network import Specialist
from ..pseudo_labels.self_training import PseudoLabels
from .base import SemiSupervisedObjective
from .cps import CrossPseudoSupervision
from .dan import DeepAdversarialNetwork
from .dtc import DualTaskConsistency
from .knowsam.objective import KnowSAM
from .mean_teacher import MeanTeacher
from .ua_mt import UncertaintyAwareMeanTeacher

METHODS: dict[str, type[SemiSupervisedObjective]] = {
    "supervised": SemiSupervisedObjective,
    "mean_teacher": MeanTeacher,
    "ua_mt": UncertaintyAwareMeanTeacher,
    "dan": DeepAdversarialNetwork,
    "dtc": DualTaskConsistency,
    "cps": CrossPseudoSupervision,
    "knowsam": KnowSAM,
}


def find_method(method: str) -> type[SemiSupervisedObjective]:
    """Return the objective's class.

    Raises:
        InputError: an unknown name.
    """
    if method not in METHODS:
        close = difflib.get_close_matches(str(method), METHODS, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"method is {method!r}; wanted one of {', '.join(METHODS)}{meant}")
    return METHODS[method]


def body_channels(method: str, classes: int) -> int:
    """Return how many output channels a method wants of the specialist's body, for K classes."""
    return find_method(method).body_channels(classes)


def build_objective(
    method: str, network: Specialist, without_labels: bool = False, **options: Any
) -> SemiSupervisedObjective:
    """Return a method's objective; options of other methods are passed over, so that a config may name them all.

    Raises:
        InputError: an unknown method, an option that no method has, or, `without_labels`, a method that needs some.
    """
    chosen = find_method(method)
    if without_labels and not chosen.learns_without_labels:
        able = ", ".join(name for name, kind in METHODS.items() if kind.learns_without_labels)
        raise InputError(f"method is {method}, and no case has a label; wanted {able}, or a label")
    known = set().union(*(kind.options() for kind in METHODS.values()))
    unknown = sorted(options.keys() - known)
    if unknown:
        raise InputError(
            [f"no method has an option {name}; wanted one of {', '.join(sorted(known))}" for name in unknown]
        )
    own = chosen.options()
    return chosen(network, **{name: value for name, value in options.items() if name in own})


def build_taught_objective(
    method: str,
    network: Specialist,
    answers: GeneralistAnswers,
    generalist_loss: GeneralistLoss,
    pseudo_labels: PseudoLabels,
    **options: Any,
) -> SemiSupervisedObjective:
    """Return a method's objective that learns from the generalists and from pseudo labels, too, where there are any.

    Args:
        answers: of the generalists; where they don't come in rounds, they are asked in each step.
        generalist_loss: what is learnt from an answer.
        pseudo_labels: where they are off their weight is 0.
        options: see `build_objective`.
    """
    panel = answers.panel
    if panel.names:
        options |= {"generalist_loss": generalist_loss, "generalists": None if answers.in_rounds else panel}
    if not pseudo_labels.on:
        options["pseudo_label_weight"] = 0.0
    return build_objective(method, network, without_labels=not answers.cohort.labeled, **options)
