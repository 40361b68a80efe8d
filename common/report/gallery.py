"""The scans of an evaluation for the report: what is odd about each, and pictures of the worst ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import Orientation

from ..scoring.oddities import Oddities, compare
from ..slices.counted import count_slice
from ..tensors import plain
from ..volumes.image_reader import load_image
from .overlay import overlay_png


class Gallery:
    """Ignite handler that compares the scans of an evaluation with their truth, and draws the worst: label maps side by
    side over the image, on the slices where the worst structure is most wrong.

    Args:
        label_names: of the values in the label maps.
        maps: title of a column -> key of its label map [1, H, W, D] on the grid of `label`; a missing one is left out.
            What returns them, where they are not known before the evaluation.
        limit: number of the worst cases that are drawn; the best one is, too.

    Attributes:
        oddities: case -> how its prediction differs from the truth; of all cases.
        pictures: case -> PNG, the worst case first, the best one last.
    """

    def __init__(
        self,
        label_names: Mapping[int, str],
        maps: Mapping[str, str] | Callable[[], Mapping[str, str]],
        limit: int = 6,
    ) -> None:
        self.label_names, self._maps, self.limit = dict(label_names), maps, limit
        self.oddities: dict[str, Oddities] = {}
        self.pictures: dict[str, bytes] = {}

    @property
    def maps(self) -> dict[str, str]:
        """Title -> key of the columns, as they are now."""
        return dict(self._maps() if callable(self._maps) else self._maps)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.note)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        self.oddities, self.pictures = {}, {}

    def note(self, engine: Engine) -> None:
        """Compare the cases of an iteration, and draw those that are among the worst, or the best, so far."""
        for given, item in zip(engine.state.batch, engine.state.output, strict=True):
            if item.get("label") is None:
                continue
            case = str(given.get("case", item.get("case")))
            told = item.get("known_labels", given.get("known_labels"))
            values = [value for value in self.label_names if told is None or value in {int(one) for one in told}]
            self.oddities[case] = compare(item["pred"][0], item["label"][0], item["label"].affine, values)
            self._keep()
            if case in self._shown():
                self.pictures[case] = self.draw(given, item, self.oddities[case])

    def finish(self, engine: Engine) -> None:
        """Share what the processes have found, each of its cases."""
        if idist.get_world_size() > 1:
            self.oddities = {c: one for rank in idist.all_gather(list(self.oddities.items())) for c, one in rank}
            self.pictures = {c: png for rank in idist.all_gather(list(self.pictures.items())) for c, png in rank}
        self._keep()

    def worst_first(self) -> list[str]:
        """Return all cases, the lowest mean Dice first; those without any structure come last."""
        return sorted(self.oddities, key=lambda case: (math.isnan(self.oddities[case].dice), self.oddities[case].dice))

    def _shown(self) -> list[str]:
        ordered = self.worst_first()
        return list(dict.fromkeys([*ordered[: self.limit], *ordered[-1:]]))

    def _keep(self) -> None:
        self.pictures = {case: self.pictures[case] for case in self._shown() if case in self.pictures}

    def draw(self, given: Mapping[str, Any], item: Mapping[str, Any], found: Oddities) -> bytes:
        """Return the picture of a case."""
        image = load_image(image_path(item, given))
        upright = Orientation("RAS", labels=None)
        affine, size = np.asarray(item["label"].affine), item["label"].shape[1:]
        maps = {title: item[key] for title, key in self.maps.items() if item.get(key) is not None}
        turned = {title: upright(with_affine(volume, affine))[0] for title, volume in maps.items()}
        image = upright(with_affine(image, affine))
        volumes = {title: plain(volume).round().int().numpy() for title, volume in turned.items()}
        wrong = upright(with_affine(wrong_voxels(item["pred"], item["label"], found), affine))[0]
        return overlay_png(
            plain(image)[0].float().numpy(),
            volumes,
            self.label_names,
            affine_to_spacing(np.asarray(image.affine), r=3),
            focus=plain(wrong).numpy(),
            slice_name=slice_name(image.affine, image.shape[1:], affine, size),
        )


def wrong_voxels(pred: torch.Tensor, label: torch.Tensor, found: Oddities) -> torch.Tensor:
    """Return where the worst structure's prediction and truth differ, as [1, H, W, D]; nowhere where there is none."""
    worst = found.worst_first()
    value = worst[0].value if worst else 0
    return ((plain(pred) == value) != (plain(label) == value)).cpu()


def slice_name(affine: Any, size: Any, file_affine: Any, file_size: Any) -> Callable[[int, int], str]:
    """Return what names the slices of a RAS grid as the file counts them; both by affine and size in voxels."""

    def name(axis: int, index: int) -> str:
        place = count_slice(affine, size, axis, index, file_affine, file_size)
        return f"slice {place.number} of {place.of}"

    return name


def image_path(item: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the file of a case's image."""
    return str((item.get("image", given.get("image"))).meta["filename_or_obj"])


def with_affine(volume: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Return a volume [1, H, W, D] as a MetaTensor of that affine alone."""
    return MetaTensor(plain(volume).cpu().float(), affine=affine)
