"""What a training step is given beside the image: label, pseudo label and generalists' answer, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.transforms import Compose, EnsureTyped, MapTransform
from monai.transforms.traits import RandomizableTrait

from .common.grid.field_of_view import AddInsided
from .generalists.answers import GeneralistAnswers
from .pseudo_labels.self_training import PseudoLabels


class AddLabeledd(MapTransform):
    """Add `labeled`, whether the item has a `label`; one that has none gets zeros [K, H, W, D], so that items stack.

    And `known`, bool [K], the classes that a label tells about, where an item lacks it: all of them.

    Args:
        classes: K, background included.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(["image"])
        self.classes = classes

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        labeled = "label" in data
        label = data["label"] if labeled else torch.zeros(self.classes, *data["image"].shape[1:])
        known = data.get("known", torch.ones(self.classes, dtype=torch.bool))
        return {**data, "label": label, "labeled": torch.tensor(labeled), "known": known}


class AddAnswersd(MapTransform, RandomizableTrait):
    """Add `answer` [K, H, W, D], `disagreement` [1, H, W, D] and `answer_weight` of the current round.

    Zeros where there is no answer: labelled items, and every item before the first round. Not cached: the answers
    change between rounds. The three are left out altogether where `answers` is None.
    """

    def __init__(self, answers: GeneralistAnswers | None, classes: int) -> None:
        super().__init__(["case"])
        self.answers, self.classes = answers, classes

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        known = None if bool(data["labeled"]) else self.answers.load(data["case"])
        if known is None:
            size = data["image"].shape[1:]
            known = {"answer": torch.zeros(self.classes, *size), "disagreement": torch.zeros(1, *size), "weight": 0.0}
        return {
            **data,
            "answer": known["answer"],
            "disagreement": known["disagreement"],
            "answer_weight": torch.tensor(float(known["weight"])),
        }


class AddPseudoLabelsd(MapTransform):
    """Add `pseudo_label` [K, H, W, D] and `pseudo_labeled`, whether there is one that is learnt from.

    Zeros where there is none: labelled items, and cases whose label isn't trusted.
    """

    def __init__(self, pseudo_labels: PseudoLabels, classes: int) -> None:
        super().__init__(["case"])
        self.pseudo_labels, self.classes = pseudo_labels, classes

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        known = None if bool(data["labeled"]) else self.pseudo_labels.load(data["case"])
        label = torch.zeros(self.classes, *data["image"].shape[1:]) if known is None else known
        return {**data, "pseudo_label": label, "pseudo_labeled": torch.tensor(known is not None)}


class TrainPreprocessing(Compose):
    """What the specialist learns from, all changed at random: label, pseudo label and the generalists' answer, where
    these are heard.

    Args:
        answers: see `AddAnswersd`; left out where they don't come in rounds.
        pseudo_labels: see `AddPseudoLabelsd`; left out where there are none.
        augmentation: of `image`, `inside`, `label`, `pseudo_label`, `answer` and `disagreement`.
    """

    def __init__(self, answers: GeneralistAnswers, pseudo_labels: PseudoLabels, augmentation: Compose) -> None:
        classes = len(answers.cohort.grid.label_values)
        heard: list[MapTransform] = [AddPseudoLabelsd(pseudo_labels, classes)] if pseudo_labels.on else []
        heard += [AddAnswersd(answers, classes)] if answers.in_rounds else []
        maps = ["image", "inside", "label", "pseudo_label", "answer", "disagreement"]
        plain = EnsureTyped(maps, track_meta=False, allow_missing_keys=True)
        super().__init__([AddInsided("image"), AddLabeledd(classes), *heard, augmentation, plain])
