"""What a prediction is probably worth, label by label, and why a person should look at it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from torch import Tensor

from ..errors import printable
from ..grid.field_of_view import share_outside
from ..grid.native import largest
from ..launch.words import truth
from ..scoring.metrics import POOR
from .features import Features, image_quantiles, label_features
from .handedness import Handedness, surroundings
from .knowledge import Knowledge, read_knowledge
from .second_view import take_second_view

UNLIKE = 4.0  # spans of volume and shape
UNLIKE_IMAGE = 6.0  # spans of the one quantile that is furthest
OUTSIDE = 0.05  # of a scan beyond the model's field of view
KEY = "review"
FOUND = "found"  # classes on the network's grid, for a picture
ANSWER = "result"  # what MONAI Label's server sends beside a mask


class AddReviewd(MapTransform):
    """Add `review`: for each label a predicted Dice with its interval, and whether and why to look at it; and `found`,
    the classes [H, W, D] on the network's grid, to be shown with it.

    It comes right behind the inferer's answer, in the same thread: what `ReviewedInferer` kept of a second look counts.
    A line is printed for a scan that should be looked at. Clients that run the transforms by themselves get both;
    MONAI Label's server sends the rows in its answer.

    Args:
        keys: probabilities [K, H, W, D] on the network's grid.
        label_values: value of each class, background first.
        model: model.pt; what its training has seen lies beside it (`Knowledge`).
        wanted: False does nothing.
        image_key: image as the network saw it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_values: Sequence[int],
        model: str,
        wanted: bool = True,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.model, self.image_key = model, image_key
        self.label_values, self.wanted = [int(value) for value in label_values], truth("review", wanted)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        if not self.wanted:
            return result
        known = read_knowledge(self.model)
        for key in self.key_iterator(result):
            image = result[self.image_key]
            again = take_second_view(result[key].shape[1:])
            spacing = [float(p) for p in affine_to_spacing(image.affine, r=3)]
            features = label_features(result[key], spacing, again)
            found = largest(result[key].detach()).cpu()
            rows = review(known, dict(zip(self.label_values[1:], features, strict=True)), image, found)
            result |= {KEY: rows, FOUND: found, ANSWER: {**result.get(ANSWER, {}), KEY: rows}}
            reasons = dict.fromkeys(reason for row in rows for reason in row["why"])
            if reasons:
                name = printable(image.meta.get("filename_or_obj", "scan"))
                print(f"look at {name}: {'; '.join(reasons)}", flush=True)
        return result


def review(known: Knowledge, labels: Mapping[int, Features], image: Any, found: Tensor) -> list[dict[str, Any]]:
    """Return a row for each label: `label`, `predicted_dice`, `low`, `high`, `volume_ml`, `look`, `why` and features.

    Args:
        known: of the model.
        labels: value -> features.
        image: as the network saw it, a MetaTensor.
        found: classes [H, W, D] on its voxels.
    """
    of_scan = list(_of_scan(known, image, found))
    rows = []
    for value, features in labels.items():
        dice, low, high = known.predict(features.score)
        why = [*_of_label(known, value, features, dice), *of_scan]
        own: dict[str, Any] = {"label": value, "predicted_dice": dice, "low": low, "high": high}
        rows.append({**own, **features.as_dict(), "look": bool(why), "why": why})
    return rows


def _of_label(known: Knowledge, value: int, features: Features, dice: float) -> Iterator[str]:
    if features.volume_ml == 0:
        yield f"nothing found of label {value}"
        return
    if dice < POOR:
        yield f"label {value} is unsure (Dice of about {dice:.2f} expected)"
    for what, spans in known.unlike(value, features).items():
        if abs(spans) > UNLIKE:
            size = f" of {features.volume_ml:.1f} ml" if what == "volume" else ""
            yield f"label {value} has a {what}{size} unlike what was learnt from"


def _of_scan(known: Knowledge, image: Any, found: Tensor) -> Iterator[str]:
    if known.unlike_image(image_quantiles(image)) > UNLIKE_IMAGE:
        yield "the image is unlike those that were learnt from"
    if known.handedness:
        spacing = [float(p) for p in affine_to_spacing(image.affine, r=3)]
        for ends in Handedness(**known.handedness).mirrored(surroundings(image, found, spacing)):
            yield f"{ends} look mirrored"
    if "original_affine" in image.meta and "spatial_shape" in image.meta:
        size = [int(n) for n in image.meta["spatial_shape"]][:3]
        original = torch.as_tensor(image.meta["original_affine"], dtype=torch.float64, device="cpu")
        outside = share_outside(torch.linalg.inv(image.affine.double().cpu()) @ original, size, image.shape[1:])
        if outside > OUTSIDE:
            yield f"{100 * outside:.0f} % of the scan were not seen"
