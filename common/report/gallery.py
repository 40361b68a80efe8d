"""Pictures of the first cases of an evaluation, for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import Orientation

from ..tensors import plain
from ..volumes.image_reader import load_image
from .overlay import overlay_png


class Gallery:
    """Ignite handler that draws the first cases of an evaluation: label maps side by side over the image.

    Args:
        label_names: of the values in the label maps.
        maps: title of a column -> key of its label map [1, H, W, D] on the grid of `label`; a missing one is left out.
            What returns them, where they are not known before the evaluation.
        limit: number of cases drawn.
    """

    def __init__(
        self,
        label_names: Mapping[int, str],
        maps: Mapping[str, str] | Callable[[], Mapping[str, str]],
        limit: int = 6,
    ) -> None:
        self.label_names, self._maps, self.limit = dict(label_names), maps, limit
        self.pictures: dict[str, bytes] = {}

    @property
    def maps(self) -> dict[str, str]:
        """Title -> key of the columns, as they are now."""
        return dict(self._maps() if callable(self._maps) else self._maps)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.draw)

    def draw(self, engine: Engine) -> None:
        for given, item in zip(engine.state.batch, engine.state.output, strict=True):
            if len(self.pictures) >= self.limit:
                return
            image = load_image(image_path(item, given))
            upright = Orientation("RAS", labels=None)
            affine = item["label"].affine
            maps = {title: item[key] for title, key in self.maps.items() if item.get(key) is not None}
            turned = {title: upright(with_affine(volume, affine))[0] for title, volume in maps.items()}
            image = upright(with_affine(image, affine))
            spacing = affine_to_spacing(np.asarray(image.affine), r=3)
            volumes = {title: plain(volume).round().int().numpy() for title, volume in turned.items()}
            case = str(given.get("case", item.get("case")))
            self.pictures[case] = overlay_png(plain(image)[0].float().numpy(), volumes, self.label_names, spacing)


def image_path(item: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the file of a case's image."""
    return str((item.get("image", given.get("image"))).meta["filename_or_obj"])


def with_affine(volume: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Return a volume [1, H, W, D] as a MetaTensor of that affine alone."""
    return MetaTensor(plain(volume).cpu().float(), affine=affine)
