"""What a segmenter is given of a case: its image and what teaches it."""

from __future__ import annotations

from typing import Any

from monai.transforms import Compose, EnsureTyped, SelectItemsd

from .objective import AddPseudoLabeld

KEPT = ("image", "target", "weight")


class TaughtPreprocessing(Compose):
    """A case on its grid with its pseudo label: `image`, `target` and `weight`, see `AddPseudoLabeld`, changed alike.

    Whatever else is known of the case stays out, but its id, and `known` where there is one.

    Args:
        labeller: has `load(case)`, and has made the labels by the time that a case is asked for.
        augmentation: of all three.
    """

    def __init__(self, labeller: Any, augmentation: Compose) -> None:
        self.augmentation = augmentation
        ready = EnsureTyped(KEPT, track_meta=False)
        kept = SelectItemsd(["case", *KEPT, "known"], allow_missing_keys=True)
        super().__init__([AddPseudoLabeld(labeller), kept, augmentation, ready])
