"""Labels that the light network learns from: the truth where there is one, else what the adapted SAM says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .cohort import SlicedCohort
from .common.grid.field_of_view import inside_scan
from .common.launch.words import number, truth
from .common.pseudo_labels.grids import on_grid
from .common.pseudo_labels.store import PseudoLabelBank
from .common.pseudo_labels.work import CaseWork, settings_digest
from .common.sam.features.slice_features import SliceFeatures
from .common.tensors import known_share, plain
from .slice_model.adapted_sam import AdaptedSam


class SliceLabeller:
    """Segment the unlabelled volumes slice by slice with the adapted SAM, and keep that beside the true labels.

    Args:
        cohort: has `grid`, `slice_grid`, `slice_axis` and `labeled`.
        images: the cases on the common grid. slices: the same in the same order on that of the slices.
        features: SAM's, that `slices` are made known to here.
        network: trained by the time of `run`.
        folder: of the labels on disk.
        pseudo_weight: of a voxel that nobody drew, beside 1 of one with a true label.
        resume: keep what an interrupted run of the same settings and weights has left.
    """

    def __init__(
        self,
        cohort: SlicedCohort,
        images: Sequence[Mapping[str, Any]],
        slices: Sequence[Mapping[str, Any]],
        features: SliceFeatures,
        network: AdaptedSam,
        folder: str,
        pseudo_weight: float = 0.5,
        resume: bool = False,
    ) -> None:
        self.cohort, self.images, self.slices = cohort, images, slices
        self.features, self.network, self.folder = features, network, folder
        self.pseudo_weight, self.resume = number("pseudo_weight", pseudo_weight, least=0), truth("resume", resume)
        self._bank: PseudoLabelBank | None = None
        self._own: PseudoLabelBank

    @property
    def settings(self) -> dict[str, Any]:
        """For run.json."""
        return {"pseudo_weight": self.pseudo_weight}

    def run(self) -> None:
        """Make the label of every unlabelled case, several processes their shares."""
        work = CaseWork(self.folder, self._identity(), self.resume)
        work.remove_stale(of_all_settings=True)
        bank, own = work.bank(), work.bank("slices")
        unlabeled = [item for item in self.images if "label" not in item]
        for item in work.each(unlabeled, bank, "pseudo labels"):
            seen = self.seen(item["case"])
            found = self.segment(item["case"], seen["image"])
            inside = inside_scan(seen["image"]).cpu()
            label = {"target": found * inside, "weight": inside.float()}
            if self.cohort.grid.fine is not None:
                own.save(item["case"], {"target": label["target"].half()})
            label = on_grid(label, seen["image"], item["image"])
            bank.save(item["case"], {name: value.half() for name, value in label.items()}, **self.judge(found, inside))
        self._bank, self._own = bank, own

    def seen(self, case: str) -> Mapping[str, Any]:
        """Return a case on the grid of the slices."""
        return self.slices[[item["case"] for item in self.images].index(case)]

    def segment(self, case: str, image: Tensor) -> Tensor:
        """Return the probabilities [K, H, W, D] of an image [C, H, W, D] on the grid of the slices."""
        self.features.note(case, image)
        found = self.network.segment(self.features.embedding(case), self.features.all_planes(case))
        return found.movedim(1, self.cohort.slice_axis + 1)

    def load(self, case: str) -> dict[str, Tensor]:
        """Return `target` [K, H, W, D] and `weight` [1, H, W, D] of a case on the common grid, float32.

        And `known` [K] bool, the classes that these tell about, where not all labels tell about all.
        """
        item = next(item for item in self.images if item["case"] == case)
        if "label" not in item:
            found = self._made().load(case)
            taught = {"target": found["target"], "weight": self.pseudo_weight * found["weight"]}
        else:
            label = plain(item["label"])
            taught = {"target": label, "weight": known_share(label, 0)}
        if any("known" in item for item in self.images):
            taught["known"] = item.get("known", torch.ones(len(taught["target"]), dtype=torch.bool))
        return taught

    def on_slices(self, case: str) -> tuple[Tensor, Tensor]:
        """Return the `target` [K, H, W, D] of an unlabelled case on the grid of the slices, and the image there."""
        self._made()
        return self._own.load(case)["target"], self.seen(case)["image"]

    def judge(self, found: Tensor, inside: Tensor) -> dict[str, Any]:
        """Return what can be said of probabilities [K, H, W, D]: of each label its ml, and how sure its voxels are."""
        classes = found.argmax(0).masked_fill(~inside[0], 0)
        voxel = float(torch.tensor(self.cohort.slice_grid.pixdim).prod()) / 1000
        volume, sure = {}, {}
        for index, value in enumerate(self.cohort.grid.label_values[1:], start=1):
            own = classes == index
            volume[str(value)] = float(own.sum()) * voxel
            sure[str(value)] = float(found[index][own].mean()) if bool(own.any()) else None
        return {"volume_ml": volume, "confidence": sure}

    def rows(self) -> list[dict[str, Any]]:
        """Return one row an unlabelled case for a report: ml of each label, and the lowest confidence."""
        rows = []
        for item in self.images:
            if "label" in item:
                continue
            judged = self._made().judgement(item["case"])
            sure = [value for value in judged["confidence"].values() if value is not None]
            missing = [self.cohort.labels[int(v)] for v, ml in judged["volume_ml"].items() if ml == 0]
            rows.append(
                {
                    "case": item["case"],
                    **{f"{self.cohort.labels[int(v)]} (ml)": ml for v, ml in judged["volume_ml"].items()},
                    "lowest confidence": min(sure) if sure else "-",
                    "not found": ", ".join(missing) or "-",
                }
            )
        return rows

    def _identity(self) -> str:
        """Name what the labels depend on, so that those of other weights or settings aren't gone on with."""
        tensors = self.network.state_dict()
        learnt = [tensors[name] for name in sorted(self.network.trained())]
        grids = (self.cohort.grid.as_dict(), self.cohort.slice_grid.as_dict(), self.cohort.slice_axis)
        return settings_digest(grids, sorted(self.network.settings.items(), key=str), *learnt)

    def _made(self) -> PseudoLabelBank:
        if self._bank is None:
            raise RuntimeError("pseudo labels: nothing was made yet, run comes first")
        return self._bank
