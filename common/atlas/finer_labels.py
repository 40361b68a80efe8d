"""What the atlases say of the cases on finer voxels, and what of that is seen on the common grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..costs.pieces import pieces
from ..grid.to_grid import between_grids
from ..pseudo_labels.opinions import fuse_by_similarity
from ..pseudo_labels.refine import refine_by_intensity
from ..pseudo_labels.work import CaseWork
from ..registration.fields import folding_percent
from .finer import FinerScan, FinerScans
from .registered import RegisteredAtlas

MOST = 4  # atlases that go on to a case


class FinerLabels:
    """The labels that registrations on finer voxels give; the common grid's share of them is kept on disk.

    Of many atlases those go on that a case resembles most: the others' say would be next to nothing.

    Args:
        scans: reads the cases.
        registered: the atlases with their registrations.
        work: where what is found lies; a resumed one goes on with what is there.
        refine_intensity: weight of `refine_by_intensity`; 0 for off.
    """

    def __init__(
        self, scans: FinerScans, registered: Sequence[RegisteredAtlas], work: CaseWork, refine_intensity: float = 0.0
    ) -> None:
        self.scans, self.registered, self.work = scans, registered, work
        self.refine_intensity, self.bank = refine_intensity, work.bank("finer")

    def make(self, cases: Iterable[Mapping[str, Any]]) -> None:
        """Go on with every registration to the cases, and keep what is seen of the labels on the common grid.

        Args:
            cases: {"case", "image" [C, H, W, D] on the common grid}; what of them is there is left.
        """

        def read(item: Mapping[str, Any]) -> tuple[Mapping[str, Any], FinerScan]:
            return item, self.scans.scan(item["image"])  # of large scans one is in memory at a time

        def go_on(found: tuple[Mapping[str, Any], FinerScan]) -> None:
            item, scan = found
            near = nearest([one.similarity(item["case"]) for one in self.registered])
            fields = {number: self.registered[number].go_on(item["case"], scan) for number in near}
            label, folding = self.sharpened(scan, fields)
            seen = between_grids(label.cpu(), scan.affine, scan.common, item["image"].shape[1:])
            kept = {f"{name}_{number}": one[name] for number, one in fields.items() for name in one}
            self.bank.save(item["case"], {"label": seen.half(), **kept}, folding_percent=folding)

        device = self.registered[0].device
        here, in_all, *_ = pieces([one.atlas.case for one in self.registered], MOST)
        self.work.do_each(cases, self.bank, go_on, "registration on finer voxels", read, device, in_all / here)

    def on_common(self, case: str) -> tuple[Tensor, float]:
        """Return the label [K, H, W, D] of a case on the common grid, and the folding of the fields, per cent."""
        return self.bank.load(case)["label"], self.bank.judgement(case)["folding_percent"]

    def on_finer(self, item: Mapping[str, Any]) -> tuple[Tensor, FinerScan]:
        """Return the label [K, H, W, D] of a case, see `make`, on finer voxels, and the scan on these."""
        scan, kept = self.scans.scan(item["image"]), self.bank.load(item["case"])
        near = [number for number in range(len(self.registered)) if f"affine_{number}" in kept]
        fields = {number: {name: kept[f"{name}_{number}"] for name in ("affine", "velocity")} for number in near}
        return self.sharpened(scan, fields)[0], scan

    def propagate(self, scan: FinerScan, fields: Mapping[int, Mapping[str, Tensor]]) -> tuple[Tensor, float]:
        """Return the label [K, H, W, D] that fields give a scan, and the most folding, per cent.

        Args:
            fields: number of the atlas -> `affine` and `velocity`, see `FinerAtlas.go_on`.
        """
        device = self.registered[0].device
        image, inside = scan.view(device)
        labels, similarity, folding = [], [], []
        for number, found in fields.items():
            atlas = self.registered[number].finer.atlas
            affine, velocity = (found[name].to(device) for name in ("affine", "velocity"))
            label, ddf = atlas.propagate(affine[None], velocity, inside)
            labels.append(label)
            folding.append(float(folding_percent(ddf)))
            if len(fields) > 1:
                similarity.append(atlas.similarity(image, affine[None], velocity, inside))
        return fuse_by_similarity(labels, similarity), max(folding)

    def sharpened(self, scan: FinerScan, fields: Mapping[int, Mapping[str, Tensor]]) -> tuple[Tensor, float]:
        """Return the same, with the boundary where the scan's intensities say."""
        label, folding = self.propagate(scan, fields)
        if self.refine_intensity:
            image, _ = scan.view(label.device)
            label = refine_by_intensity(self.registered[0].atlas.grey(image)[0], label, self.refine_intensity)
        return label, folding


def nearest(similarity: Sequence[float]) -> list[int]:
    """Return the numbers of the `MOST` largest, in ascending order."""
    return sorted(sorted(range(len(similarity)), key=lambda number: -similarity[number])[:MOST])
