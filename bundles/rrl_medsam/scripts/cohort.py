"""One labelled volume and many unlabelled ones: who is who, on which grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from torch import Tensor
from torch.nn import functional as F

from .common.data.checks import require_sound
from .common.data.cohort import Cohort
from .common.data.datalist import Case, Datalist
from .common.data.selection import labeled_cases, one_labeled, strip_labels
from .common.errors import printable
from .common.grid.field_of_view import inside_scan
from .common.launch.words import optional
from .common.tensors import grey, plain


class OneShotCohort(Cohort):
    """Read a data set for one-shot learning; of the training labels only the atlas's is ever opened.

    Args:
        dataset_dir, datalist, spatial_size, pixdim, max_voxels, divisor: see `Cohort`.
        atlas: id of the labelled training case; None: the only one that has a label, else the medoid (`choose_atlas`).

    Attributes, besides those of `Cohort`:
        images: training and unlabelled cases, case and image alone.
        candidates: ids of the training cases that have a label.
        atlas: the labelled case; None until `choose_atlas` has chosen one.

    Raises:
        InputError: what is wrong with the datalist or a setting, one line a problem.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: str | Datalist = "dataset.json",
        atlas: str | None = None,
        **grid: Any,
    ) -> None:
        super().__init__(dataset_dir, datalist, **grid)
        self.named_atlas = None if optional(atlas) is None else str(atlas)  # `--atlas 0` is a number there
        self.candidates = [case["case"] for case in labeled_cases(self.content)]
        self.images = strip_labels(self.content.training + self.content.unlabeled)
        self.atlas: dict[str, Any] | None = None
        if self.named_atlas is not None or len(self.candidates) == 1:
            self.atlas = one_labeled(self.content, self.named_atlas or self.candidates[0])[0]
        named = {} if self.atlas is None else {self.atlas["case"]: self.atlas}
        self.cases: list[Case] = [*named.values(), *(case for case in self.images if case["case"] not in named)]

    def needs_foreground(self, case: Case) -> bool:
        return "label" in case

    @property
    def whole_cases(self) -> list[Case]:
        atlas = [] if self.atlas is None else [{key: self.atlas[key] for key in ("case", "image", "label")}]
        return [*atlas, *(case for case in self.images if not atlas or case["case"] != atlas[0]["case"])]

    def choose_atlas(self, images: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the atlas case, choosing the label-free medoid of the candidates where none was named.

        The medoid has the highest mean correlation of intensities (of several channels, their mean) with all others
        on the common grid.

        Args:
            images: items {"case", "image" [C, H, W, D]} in the order of `self.images`.
        """
        if self.atlas is None:
            inside = torch.stack([F.avg_pool3d(inside_scan(item["image"]).float(), 2).flatten() for item in images])
            small = torch.stack([F.avg_pool3d(grey(plain(item["image"])).float(), 2).flatten() for item in images])
            mean = (small * inside).mean(1, keepdim=True) / inside.mean(1, keepdim=True).clamp_min(1e-6)
            small = (small - mean) * inside  # what was not scanned correlates with nothing
            small = small / small.norm(dim=1, keepdim=True).clamp_min(1e-6)
            scores = (small @ small.sum(0)) - 1
            rank = {item["case"]: float(score) for item, score in zip(images, scores, strict=True)}
            best = max(self.candidates, key=lambda case: (rank[case], case))
            atlas = one_labeled(self.content, best)[0]
            require_sound(
                [atlas], label_values=self.labels, dataset_dir=self.content.directory, needs_foreground=[best]
            )
            self.atlas = atlas
            if idist.get_rank() == 0:
                print(
                    f"atlas: {printable(best)}, the label-free medoid of {len(self.candidates)} labelled training cases"
                )
        return self.atlas

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "atlas": self.named_atlas}
