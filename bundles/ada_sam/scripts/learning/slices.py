"""The slices of all volumes as training samples: few have a mask, each has a bit for every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from monai.data import Dataset
from monai.transforms import Compose, Randomizable, Transform
from torch import Tensor

from ..common.errors import InputError
from ..common.grid.field_of_view import inside_scan
from ..common.sam.features.slice_features import SliceFeatures
from ..common.sam.features.slice_views import augment, view_transform
from ..common.slices.presence_volume import slice_bits
from ..common.tensors import plain
from ..volume.within_scan import scanned_slices

NO_MASK = -1  # in the place of a class index, where nobody has said what it is


@dataclass(frozen=True)
class SliceRow:
    """One slice of the common grid: of which case, at which index, presence bits bool [P], whether it has a mask."""

    case: str
    slice: int
    bits: Tensor
    annotated: bool


class SliceTable(Sequence[SliceRow]):
    """All slices of the prepared training volumes that the scans have, in their order, and the masks of some.

    The volumes are read when a slice is first asked for: a trainer can be built before they are loaded, and until then
    there is none.

    Args:
        images: {"case", "image" [1, H, W, D], "presence" [P, H, W, D], and where masks are known "label" (class index)
            and "annotated", [1, H, W, D]}.
        slice_axis: 0, 1 or 2 of the RAS grid.

    Raises:
        InputError: when it is first asked: no slice has a mask, as where the grid leaves the labelled slices out.
    """

    def __init__(self, images: Sequence[Mapping[str, Any]], slice_axis: int) -> None:
        self.images, self.slice_axis = images, int(slice_axis)

    def __len__(self) -> int:
        return len(self.rows) if len(self.images) else 0

    def __getitem__(self, index: int) -> SliceRow:  # type: ignore[override]  # nobody asks for a range of rows
        return self.rows[index]

    @property
    def rows(self) -> list[SliceRow]:
        """All slices."""
        return self._read[0]

    @property
    def masks(self) -> dict[tuple[str, int], Tensor]:
        """(case, slice) -> mask [rows, columns] int64."""
        return self._read[1]

    def annotated(self) -> list[int]:
        """Return the indices of the rows with a mask."""
        return [number for number, row in enumerate(self.rows) if row.annotated]

    def others(self) -> list[int]:
        """Return the indices of the rows without one."""
        return [number for number, row in enumerate(self.rows) if not row.annotated]

    def bits(self) -> Tensor:
        """Return the presence bits of all slices, bool [N, P]."""
        return torch.stack([row.bits for row in self.rows])

    @cached_property
    def _read(self) -> tuple[list[SliceRow], dict[tuple[str, int], Tensor]]:
        rows: list[SliceRow] = []
        masks: dict[tuple[str, int], Tensor] = {}
        for item in self.images:
            case, bits = item["case"], slice_bits(plain(item["presence"]), self.slice_axis)  # [P, n]
            known = torch.zeros(bits.shape[1], dtype=torch.bool)
            if "annotated" in item:
                known = slice_bits(plain(item["annotated"]), self.slice_axis)[0]
            there = scanned_slices(inside_scan(item["image"])[0], self.slice_axis)
            for index in known.nonzero()[:, 0].tolist():
                mask = plain(item["label"])[0].select(self.slice_axis, index)
                masks[case, index] = mask.round().long()
            rows += [
                SliceRow(case, index, bits[:, index], bool(known[index])) for index in there.nonzero()[:, 0].tolist()
            ]
        if not masks:
            raise InputError(
                f"none of {len(rows)} slices on the common grid has a mask; wanted one or more, so that "
                "spatial_size and pixdim have to span the labelled slices"
            )
        return rows, masks


class TakeSlice(Randomizable, Transform):
    """Turn a row of a `SliceTable` into a training sample, see `SliceDataset`.

    Which view is taken is drawn from a random state of its own, which MONAI's data loader seeds in every worker and
    `StageCheckpoint` in every epoch.
    """

    def __init__(self, table: SliceTable, features: SliceFeatures, view_count: int, embedded: bool) -> None:
        self.table, self.features, self.view_count, self.embedded = table, features, view_count, embedded
        self.moves = view_transform()

    def __call__(self, row: SliceRow) -> dict[str, Any]:
        case, index = row.case, row.slice
        mask = self.table.masks.get((case, index))
        # a draw for every row, so that it does not hang on the kind of those before it
        number, seed = int(self.R.randint(self.view_count + 1)), int(self.R.randint(2**31))
        item: dict[str, Any] = {"case": case, "slice": index, "annotated": torch.tensor(float(row.annotated))}
        if not self.embedded:
            planes = self.features.planes(case, index)
            if mask is not None and self.view_count:
                self.moves.set_random_state(seed=seed)
                view = augment(self.moves, planes, mask)
                planes, mask = view.planes, view.mask
        elif mask is not None and number:  # 0 is the slice as it is
            item["embedding"], view = self.features.view(case, index, number - 1)
            planes, mask = view.planes, view.mask
        else:
            item["embedding"], planes = self.features.slice_embedding(case, index), self.features.planes(case, index)
        item["image"] = planes.clone()
        item["presence"] = self._presence(row, mask)
        item["mask"] = torch.full(planes.shape[1:], NO_MASK, dtype=torch.long) if mask is None else mask.clone()
        return item

    def _presence(self, row: SliceRow, mask: Tensor | None) -> Tensor:
        if mask is None:
            return row.bits.float()
        # the mask knows better: a view may have turned a label out of sight, and bits from two clicks fill gaps
        return torch.stack([(mask == number).any() for number in range(1, len(row.bits) + 1)]).float()


class SliceDataset(Dataset):
    """Slices as samples {"case", "slice", "embedding", "image", "presence", "mask", "annotated"}.

    "embedding" [C, h, w] is what the mask decoder takes, the padding of the encoder's input included; it is missing
    where `embedded` is not wanted. "image" [1, rows, columns] in [0, 1], three channels
    where the features have context. "presence" [P] float: the bits, or what the mask shows. "mask" [rows, columns]
    int64: class index, -1 where there is no mask. "annotated" float, 1 with a mask. A slice with a mask comes as it is
    or as one of its augmented views, all equally often; without embeddings it is augmented anew every time.

    Args:
        images: the prepared volumes, see `SliceTable`; row i of `table` is sample i.
        features: that know the images by the time a sample is taken (`SliceFeatures.prepare`).
        view_count: augmented views of each slice with a mask; 0 for none.
        seed: of the views.

    Raises:
        InputError: a count below 0.
    """

    def __init__(
        self,
        images: Sequence[Mapping[str, Any]],
        features: SliceFeatures,
        view_count: int = 8,
        seed: int = 0,
    ) -> None:
        if view_count < 0:
            raise InputError(f"view_count is {view_count}; wanted 0 or more")
        self.table, self.features = SliceTable(images, features.slice_axis), features
        self.view_count, self.seed = int(view_count), int(seed)
        self.embedded = not features.tuned  # a tuned backbone encodes "image" itself
        super().__init__(self.table, TakeSlice(self.table, features, self.view_count, self.embedded))

    def without_embeddings(self) -> SliceDataset:
        """Return the same slices for whoever has no use for a SAM."""
        plain_slices = copy(self)
        plain_slices.embedded = False
        plain_slices.transform = Compose(TakeSlice(self.table, self.features, self.view_count, embedded=False))
        return plain_slices

    def prepare(self) -> None:
        """Make the views and encode those that are not cached yet; nothing where no embedding is wanted."""
        if self.embedded and self.view_count:
            slices = [(case, index, mask) for (case, index), mask in self.table.masks.items()]
            self.features.prepare_views(slices, self.view_count, self.seed)
