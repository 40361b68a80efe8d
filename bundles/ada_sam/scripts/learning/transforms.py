"""What the segmenter learns from."""

from __future__ import annotations

from monai.transforms import Compose, DeleteItemsd, EnsureTyped

from ..common.pseudo_labels.objective import AddPseudoLabeld
from ..labeller import PseudoLabeller


class TrainPreprocessing(Compose):
    """A case on its grid with its pseudo label: `image`, `target` and `weight`, see `AddPseudoLabeld`, changed alike.

    Args:
        labeller: has made the labels by the time that a case is asked for.
        augmentation: of all three.
    """

    def __init__(self, labeller: PseudoLabeller, augmentation: Compose) -> None:
        super().__init__(
            [
                AddPseudoLabeld(labeller),
                DeleteItemsd(["presence", "label", "annotated"]),
                augmentation,
                EnsureTyped(["image", "target", "weight"], track_meta=False),
            ]
        )
