"""What the light network learns from."""

from __future__ import annotations

from typing import Any

from monai.transforms import Compose, DeleteItemsd, EnsureTyped

from ..common.pseudo_labels.objective import AddPseudoLabeld


class TrainPreprocessing(Compose):
    """A case on its grid with what teaches it, `image`, `target` and `weight`, see `AddPseudoLabeld`, changed alike.

    Args:
        labeller: `SliceLabeller`; has made the labels by the time that a case is asked for.
        augmentation: of all three.
    """

    def __init__(self, labeller: Any, augmentation: Compose) -> None:
        self.augmentation = augmentation
        super().__init__(
            [
                AddPseudoLabeld(labeller),
                DeleteItemsd(["label"]),
                augmentation,
                EnsureTyped(["image", "target", "weight"], track_meta=False),
            ]
        )
