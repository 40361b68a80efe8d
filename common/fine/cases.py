"""What the fine network learns from: each case's region on fine voxels, with its label or what stands for that."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import Compose, Orientationd
from safetensors import safe_open
from torch import Tensor, nn

from ..cohorts.cohort import Cohort
from ..grid.field_of_view import filled_box
from ..grid.native import sample_probabilities
from ..grid.to_grid import WayToGrid, class_boxes
from ..learning.partial import known_classes
from ..levels.network import MARGIN, CoarseView
from ..levels.pieces import WHOLE, largest_share
from ..levels.regions import Box, find_regions, merge_all
from ..levels.windows import probabilities, windowed
from ..pseudo_labels.work import CaseWork, settings_digest
from ..tensors import plain
from ..volumes.label import LoadLabelVolumed

UNKNOWN = 255  # in a label: neither background nor any structure, it teaches nothing
SURE = 0.6  # probability from which on what the coarse network says stands for a label
POINTS = 2000  # places of a class that patches are drawn around


class FineCases:
    """Bring each case to fine voxels once, cut to its region, and keep it on disk: memory doesn't grow with cases.

    The label of a case that has one is the truth. For any other case stands what the trained coarse network says, where
    it is sure of it; a class of its own knows pseudo labels that are finer than the coarse network's voxels.

    Args:
        cohort: its `whole_cases` have a `label` only where a regime may open all of it.
        preprocessing: of a path to the whole scan on fine voxels.
        network: the coarse one, trained by the time of `prepare`.
        folder: where the cases lie; those of an interrupted run are used again where `resume`.
        unlabeled: also cases without a label.
    """

    known = "labels"  # what of the truth a regime knows
    fewest = 3  # true labels that have to show a class, before they tell of its pieces: a tumour is one by chance

    def __init__(
        self,
        cohort: Cohort,
        preprocessing: Compose,
        network: nn.Module,
        folder: str,
        unlabeled: bool = True,
        device: str | torch.device = "cpu",
        resume: bool = False,
    ) -> None:
        self.cohort, self.preprocessing, self.network = cohort, preprocessing, network
        self.folder, self.unlabeled, self.resume = folder, unlabeled, resume
        self.device = torch.device(device)
        self.cases: list[dict[str, Any]] = []

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.cohort.grid.label_values)

    @property
    def work(self) -> CaseWork:
        """What is kept of these cases at these levels."""
        identity = settings_digest((self.cohort.grid.as_dict(), [case["case"] for case in self.wanted()]))
        return CaseWork(Path(self.folder).expanduser(), identity, self.resume)

    def of(self, network: nn.Module, name: str) -> FineCases:
        """Return the same for another coarse network, in a folder of their own; nothing is made yet."""
        other = copy.copy(self)
        other.network, other.folder, other.cases = network, f"{self.folder}_{name}", []
        return other

    def labels_alone(self, network: nn.Module, name: str) -> FineCases:
        """Return the labels that are the truth alone, for a plain control's coarse network; nothing is made yet."""
        folder = f"{self.folder}_{name}"
        return FineCases(self.cohort, self.preprocessing, network, folder, False, self.device, self.resume)

    def wanted(self) -> list[Mapping[str, Any]]:
        """Return the cases that are learnt from, as far as is known before they are seen; the labelled ones first."""
        cases = [case for case in self.cohort.whole_cases if self.unlabeled or "label" in case]
        return sorted(cases, key=lambda case: "label" not in case)

    def prepare(self) -> None:
        """Make what is missing; then `cases` are those of which there is a region."""
        work = self.work
        work.remove_stale(of_all_settings=True)
        bank = work.bank()
        for case in work.each(self.wanted(), bank, "fine regions"):
            found = self.cut(case)
            bank.save(case["case"], found, count=len(found["points"]))
        self.cases = [
            {
                "case": case["case"],
                "path": str(bank.path(case["case"])),
                "labeled": "label" in case,
                "known": known_classes(case.get("known_labels"), self.cohort.grid.label_values),
            }
            for case in self.wanted()
            if bank.judgement(case["case"])["count"] > 0
        ]

    @property
    def labeled(self) -> list[int]:
        """Indices of the cases whose label is the truth."""
        return [index for index, case in enumerate(self.cases) if case["labeled"]]

    def count_windows(self, window: Sequence[int]) -> float:
        """Return how many windows, voxels, have the volume of a case's structures, at the mean; 1 at least."""
        margin = torch.tensor([2 * MARGIN / p for p in self.cohort.grid.finest.pixdim])
        counts = []
        for case in self.cases:
            with safe_open(case["path"], framework="pt") as file:
                points = file.get_tensor("points").float()
            places = points[points[:, 0] > 0, 1:] if (points[:, 0] > 0).any() else points[:, 1:]
            extent = places.amax(0) - places.amin(0) + 1 + margin
            counts.append(max(float(extent.prod()) / prod(window), 1.0))
        return sum(counts) / max(len(counts), 1)

    def one_piece(self) -> list[bool]:
        """Return for each class whether it is one piece in each label that is the truth, of `fewest` that show it."""
        found: list[dict[int, float]] = []
        for index in self.labeled:
            with safe_open(self.cases[index]["path"], framework="pt") as file:
                found.append(largest_share(file.get_tensor("label")[0]))
        shares = [[share[number] for share in found if number in share] for number in range(self.classes)]
        return [len(own) >= self.fewest and min(own) >= WHOLE for own in shares]

    def cut(self, case: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the region of a case: `image` [C, h, w, d] half, `label` [1, h, w, d] uint8 (class or 255), `points`.

        `points` [n, 4] int16: class, and a voxel of it, at most 2000 of each class; n is 0 where there is no region.
        """
        image = self.preprocessing({"image": case["image"]})["image"]
        label, box = self.teach(case, image)
        if box is None:
            empty = torch.zeros((1, 0, 0, 0))
            return {"image": empty.half(), "label": empty.byte(), "points": torch.zeros((0, 4), dtype=torch.int16)}
        values = plain(image)[(slice(None), *box)]
        return {"image": values.half(), "label": label, "points": find_points(label[0], self.classes)}

    def teach(self, case: Mapping[str, Any], image: MetaTensor) -> tuple[Tensor, Box | None]:
        """Return what stands for a case's label in a box of the image's voxels, [1, h, w, d] uint8, and the box."""
        if "label" not in case:
            return self.guess(image)
        label = self.truth(case, image)
        box = self.around(label)
        return (label, None) if box is None else (label[(slice(None), *box)], box)

    def with_truth(self) -> list[Mapping[str, Any]]:
        """Return the cases that are learnt from of which some truth is known, those of which most is known first."""
        return [case for case in self.wanted() if "label" in case]

    def truth(self, case: Mapping[str, Any], image: MetaTensor) -> Tensor:
        """Return the true label of a case on the image's voxels, [1, H, W, D] uint8, 255 where it is not known."""
        loaded = Compose([LoadLabelVolumed("label"), Orientationd("label", axcodes="RAS", labels=None)])
        label = loaded({"label": case["label"]})["label"]
        return on_voxels(label, image, self.cohort.grid.label_values)

    def around(self, label: Tensor) -> Box | None:
        """Return the box of a label's structures and half a window around, from which background is learnt."""
        found = filled_box(label[0] > 0)
        if found is None:
            return None
        fine = self.cohort.grid.finest
        sides = zip(found, fine.spatial_size, label.shape[1:], strict=True)
        return tuple(slice(max(s.start - w // 2, 0), min(s.stop + w // 2, n)) for s, w, n in sides)

    @torch.no_grad()
    def guess(self, image: MetaTensor) -> tuple[Tensor, Box | None]:
        """Return what the coarse network says in the box of what it finds, [1, h, w, d] uint8, and the box."""
        grid, fine = self.cohort.grid, self.cohort.grid.finest
        seen = CoarseView(image.shape[1:], fine.pixdim, grid.pixdim, grid.spatial_size)
        small = seen.resample(plain(image))[None].to(self.device)
        with eval_mode(self.network):
            found = windowed(small, probabilities(self.network), grid.spatial_size)[0].cpu()
        boxes = find_regions(found, [MARGIN / p for p in grid.pixdim])
        if not boxes:
            return torch.zeros((1, 0, 0, 0), dtype=torch.uint8), None
        box = seen.to_image(merge_all(boxes), fine.spatial_size)
        pred = sample_probabilities(found, seen.to_coarse(), box)
        sure, label = pred.max(0)
        label = label.to(torch.uint8).masked_fill_(sure < SURE, UNKNOWN)
        return label[None], box

    def from_grid(self, found: Tensor, seen: MetaTensor, image: MetaTensor) -> tuple[Tensor, Box | None]:
        """Return probabilities on a grid as classes of an image's voxels in a box, [1, h, w, d] uint8; 255: unsure.

        Args:
            found: [K, H, W, D]; all classes are 0 where nothing is known. seen: the image on that grid.
            image: the whole scan on fine voxels.
        """
        filled = filled_box(found.argmax(0) > 0)
        if filled is None:
            return torch.zeros((1, 0, 0, 0), dtype=torch.uint8), None
        to_grid = torch.linalg.inv(plain(seen.affine).double()) @ plain(image.affine).double()
        box = self.box_on(tuple(filled), torch.linalg.inv(to_grid), image.shape[1:])
        sure, label = sample_probabilities(found, to_grid, box).max(0)
        return label.to(torch.uint8).masked_fill_(sure < SURE, UNKNOWN)[None], box

    def box_on(self, found: Box, to_image: Tensor, size: Sequence[int]) -> Box:
        """Return a box of grid voxels as one of an image's voxels, with half a window around.

        Args:
            to_image: affine [4, 4] from the grid's voxels to the image's. size: of the image.
        """
        corners = torch.tensor([[*corner, 1.0] for corner in product(*((s.start, s.stop - 1) for s in found))]).double()
        placed = (to_image @ corners.T)[:3]
        sides = zip(
            placed.amin(1).tolist(), placed.amax(1).tolist(), self.cohort.grid.finest.spatial_size, size, strict=True
        )
        return tuple(slice(max(int(a) - w // 2, 0), min(int(b) + 1 + w // 2, int(n))) for a, b, w, n in sides)


def on_voxels(label: Tensor, image: MetaTensor, values: Sequence[int]) -> Tensor:
    """Return a label map [1, H', W', D'], RAS, as classes on an image's voxels, [1, H, W, D] uint8: class by class."""
    way = WayToGrid(label, image.pixdim.tolist(), image.shape[1:])
    result = torch.zeros(way.spatial_size, dtype=torch.uint8)
    best, total = torch.zeros(way.spatial_size), torch.zeros(way.spatial_size)
    label = plain(label)
    boxes = class_boxes(label[0])
    for number, value in enumerate(values[1:], start=1):
        share = way.resample_class(label, value, boxes)[0]
        result[share > best] = number
        best, total = torch.maximum(best, share), total + share
    return result.masked_fill_(best <= 1 - total, 0)[None]


def find_points(label: Tensor, classes: int) -> Tensor:
    """Return [n, 4] int16: for each class of a label [H, W, D] up to `POINTS` of its voxels, evenly spread."""
    found = []
    for number in range(classes):
        own = np.flatnonzero(label == number)
        if len(own) > POINTS:
            own = own[np.linspace(0, len(own) - 1, POINTS).astype(np.int64)]
        where = torch.from_numpy(np.stack(np.unravel_index(own, label.shape), axis=1))
        found.append(torch.cat([torch.full((len(where), 1), number), where], dim=1))
    return torch.cat(found).to(torch.int16)


def read_patch(path: str, centre: Sequence[int], size: Sequence[int]) -> dict[str, Tensor]:
    """Return `image` [C, *size] float32 and `label` [1, *size] of a kept case around a voxel; only the patch is read.

    Beyond the region the image repeats its edge, and the label is unknown.
    """
    with safe_open(path, framework="pt") as file:
        whole = file.get_slice("image")
        shape = whole.get_shape()[1:]
        starts = [min(max(c - s // 2, 0), max(n - s, 0)) for c, s, n in zip(centre, size, shape, strict=True)]
        inner = tuple(slice(a, min(a + s, n)) for a, s, n in zip(starts, size, shape, strict=True))
        image = whole[(slice(None), *inner)].float()
        label = file.get_slice("label")[(slice(None), *inner)]
    missing = [s - m for s, m in zip(size, image.shape[1:], strict=True)]
    if any(missing):
        padding = [n for m in reversed(missing) for n in (m // 2, m - m // 2)]
        image = torch.nn.functional.pad(image[None], padding, mode="replicate")[0]
        label = torch.nn.functional.pad(label, padding, value=UNKNOWN)
    return {"image": image, "label": label}
