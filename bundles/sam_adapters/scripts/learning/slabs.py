"""Slices of volumes, each with its neighbours, as training samples of what stands behind the encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import Dataset
from torch import Tensor

from ..common.errors import InputError
from ..common.grid.field_of_view import inside_scan
from ..common.launch.words import truth
from ..common.processes import own_share, together
from ..common.sam.features.slice_features import SliceFeatures
from ..common.tensors import plain
from ..common.training.augmentation import Augmentation
from .images import UNKNOWN, to_classes

NOT_KNOWN = -1  # of a mask, where the scan has no voxel


@dataclass(frozen=True)
class Copy:
    """A volume as it is, or changed at random: its name, and the classes [H, W, D] uint8 of its voxels.

    Of an unlabelled one the classes are 0 where it was scanned. `known` [K] bool are the classes that its label tells
    about; None, of all copies, where no label lacks any.
    """

    name: str
    label: Tensor
    labeled: bool = True
    known: Tensor | None = None

    @property
    def case(self) -> str:
        """Id of the volume."""
        return self.name.rpartition("~")[0]


class SlabDataset(Dataset):
    """Samples {"embedding" [T, C, h, w], "planes" [1, rows, columns], "mask" [rows, columns] int64, "labeled"}.

    And "known" [K] bool where some labels don't tell about all classes. One a slice. T slices lie around the one that
    is segmented, the outermost repeated at the ends. Each labelled volume comes as it is and in `views` changed copies,
    whose slices are encoded once. Where the encoder learns, too, "slab" [T, 1, rows, columns] stands in the place of
    the embedding. Empty until `prepare`.

    Args:
        features: SAM's, of whose slices the axis is.
        augmentation: of a volume's `image` and `label`, in mm.
        reach: slices to each side; T is 2 reach + 1.
        views: changed copies of each volume.
        seed: of these.
        unlabeled: slices of unlabelled volumes, as they are, come behind those of the labelled ones.

    Raises:
        InputError: a count below 0.
    """

    def __init__(
        self,
        features: SliceFeatures,
        augmentation: Augmentation,
        reach: int,
        views: int = 4,
        seed: int = 0,
        unlabeled: bool = False,
    ) -> None:
        if views < 0:
            raise InputError(f"views is {views}; wanted 0 or more")
        self.features, self.augmentation, self.reach = features, augmentation, int(reach)
        self.views, self.seed, self.unlabeled = int(views), int(seed), truth("cross_prompting", unlabeled)
        self.copies: list[Copy] = []
        super().__init__([])

    @property
    def settings(self) -> dict[str, Any]:
        return {"reach": self.reach, "views": self.views, "seed": self.seed, "unlabeled": self.unlabeled,
                "augmentation": self.augmentation.settings}  # fmt: skip

    @property
    def slice_axis(self) -> int:
        return self.features.slice_axis

    def prepare(self, images: Sequence[Mapping[str, Any]]) -> None:
        """Make the copies of the volumes {"case", "image", "label"} and encode what is not cached yet.

        `label` as in `GridImages`, in either form. Those without one are left out, unless they are wanted.
        """
        self.copies, self.data = [], []
        partial = [item["known"] for item in images if "known" in item]
        every = torch.ones_like(partial[0]) if partial else None
        for item in (item for item in images if "label" in item):
            label = plain(item["label"])
            item = {**item, "label": label if label.dtype == torch.uint8 else to_classes(label)}
            for number in range(self.views + 1):
                changed = self._changed(item, number) if number else item
                self._add(f"{item['case']}~{number}", changed, item.get("known", every))
        if not any(self.with_structures()):
            raise InputError("labelled volumes: found no slice with a structure on the common grid, wanted one or more")
        for item in (item for item in images if "label" not in item and self.unlabeled):
            blank = torch.where(inside_scan(item["image"]).cpu(), 0, UNKNOWN).to(torch.uint8)
            self._add(f"{item['case']}~0", {**item, "label": blank}, every, labeled=False)
        if not self.features.tuned:
            which = "all" if self.unlabeled else "labelled"
            for copy in together(own_share(self.copies), f"{self.features.name} features of {which} volumes"):
                self.features.embedding(copy.name)

    def with_structures(self) -> list[int]:
        """Return the indices of the samples whose slice has a structure."""
        return [index for index, row in enumerate(self.data) if row["filled"]]

    def mostly_filled(self) -> list[int]:
        """Return the labelled samples with a structure, and others evenly spaced, a third as many where there are."""
        filled = self.with_structures()
        others = [index for index, row in enumerate(self.data) if row["labeled"] and not row["filled"]]
        count = min(-(-len(filled) // 3), len(others))
        return sorted(filled + [others[place * len(others) // count] for place in range(count)])

    def voxels(self, classes: int) -> Tensor:
        """Return how many voxels each class has in the labelled volumes as they are, [K]."""
        own = [copy.label.flatten() for copy in self.copies if copy.labeled and copy.name.endswith("~0")]
        counts = torch.bincount(torch.cat(own).long(), minlength=UNKNOWN + 1)
        return counts[:classes]

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.data[index]
        copy, z = self.copies[row["copy"]], row["slice"]
        count = copy.label.shape[self.slice_axis]
        around = [min(max(z + step, 0), count - 1) for step in range(-self.reach, self.reach + 1)]
        mask = copy.label.select(self.slice_axis, z).long()
        item: dict[str, Any] = {"planes": self.features.planes(copy.name, z), "labeled": copy.labeled}
        item["mask"] = mask.masked_fill(mask == UNKNOWN, NOT_KNOWN)
        if copy.known is not None:
            item["known"] = copy.known
        if self.features.tuned:
            item["slab"] = torch.stack([self.features.planes(copy.name, one) for one in around])
        else:
            own = {one: self.features.slice_embedding(copy.name, one) for one in set(around)}
            item["embedding"] = torch.stack([own[one] for one in around])
        return item

    def _add(self, name: str, item: Mapping[str, Any], known: Tensor | None, labeled: bool = True) -> None:
        label = plain(item["label"])[0].clone()
        self.features.note(name, item["image"])
        planes = label.movedim(self.slice_axis, 0).flatten(1)
        scanned, filled = (planes != UNKNOWN).any(1), ((planes > 0) & (planes != UNKNOWN)).any(1)
        number = len(self.copies)
        self.copies.append(Copy(name, label, labeled, known))
        self.data += [
            {"copy": number, "slice": z, "filled": bool(filled[z]), "labeled": labeled}
            for z in scanned.nonzero()[:, 0].tolist()
        ]

    def _changed(self, item: Mapping[str, Any], number: int) -> dict[str, Any]:
        digest = hashlib.sha256(f"{self.seed}/{item['case']}/{number}".encode()).digest()
        self.augmentation.set_random_state(seed=int.from_bytes(digest[:4], "little"))
        label = plain(item["label"])
        changed = self.augmentation({"image": plain(item["image"]), "label": label.float()})
        label = plain(changed["label"]).round().to(torch.uint8)
        return {"image": plain(changed["image"]).clamp(0, 1), "label": label}
