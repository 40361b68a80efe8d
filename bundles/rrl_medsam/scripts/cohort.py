"""One labelled volume and many unlabelled ones: who is who, on which grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from torch import Tensor
from torch.nn import functional as F

from .common.data.checks import require_sound
from .common.data.datalist import Datalist, read_datalist
from .common.data.selection import labeled_cases, one_labeled, strip_labels
from .common.grid.grid import plan_grid


class OneShotCohort:
    """Read and check a data set for one-shot learning; of the training labels only the atlas's is ever opened.

    Args:
        dataset_dir: folder with a `dataset.json` in MSD layout.
        datalist: its file name; or what a client has given (`client_datalist`).
        atlas: id of the labelled training case; None: the only one that has a label, else the medoid (`choose_atlas`).
        spatial_size, pixdim, max_voxels: see `plan_grid`.

    Raises:
        InputError: everything that is wrong with the data set, one line a problem.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: str | Datalist = "dataset.json",
        atlas: str | None = None,
        spatial_size: Sequence[int] | None = None,
        pixdim: Sequence[float] | None = None,
        max_voxels: int = 98304,
    ) -> None:
        content = read_datalist(dataset_dir, datalist)
        self.name, self.labels = content.name, content.labels
        self._datalist = content
        self.candidates = [case["case"] for case in labeled_cases(content)]
        self.images = strip_labels(content.training + content.unlabeled)
        self.test = [case for case in content.test if "label" in case]
        self.validation = [case for case in content.validation if "label" in case]
        self.atlas: dict[str, Any] | None = None
        first: list[dict] = []
        if atlas is not None or len(self.candidates) == 1:
            self.atlas = one_labeled(content, atlas or self.candidates[0])[0]
            first = [self.atlas]
        unlabeled = [case for case in self.images if not self.atlas or case["case"] != self.atlas["case"]]
        self._check(first, unlabeled, self.validation, self.test)
        self.grid: dict[str, list] = plan_grid(self.images, spatial_size, pixdim, max_voxels, model=content.grid)
        self.grid["label_values"] = list(self.labels)

    def _check(self, *groups: Sequence[Mapping[str, Any]]) -> None:
        needs_foreground = [self.atlas["case"]] if self.atlas else []
        require_sound(
            *groups, label_values=self.labels, dataset_dir=self._datalist.directory, needs_foreground=needs_foreground
        )

    @property
    def scored(self) -> list[dict]:
        """Cases whose truth may be looked at: the labelled test cases, else the labelled validation cases."""
        return self.test or self.validation

    def choose_atlas(self, images: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the atlas case, choosing the label-free medoid of the candidates where none was named.

        The medoid has the highest mean correlation of intensities with all other images on the common grid.

        Args:
            images: items {"case", "image" [1, H, W, D]} in the order of `self.images`.
        """
        if self.atlas is None:
            small = torch.stack([F.avg_pool3d(item["image"].float(), 2).flatten() for item in images])
            small = small - small.mean(1, keepdim=True)
            small = small / small.norm(dim=1, keepdim=True).clamp_min(1e-6)
            scores = (small @ small.sum(0)) - 1
            rank = {item["case"]: float(score) for item, score in zip(images, scores, strict=True)}
            best = max(self.candidates, key=lambda case: (rank[case], case))
            self.atlas = one_labeled(self._datalist, best)[0]
            self._check([self.atlas])
            if idist.get_rank() == 0:
                print(f"atlas: {best}, the label-free medoid of {len(self.candidates)} labelled training cases")
        return self.atlas
