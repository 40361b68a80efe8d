"""A few labelled volumes and many unlabelled ones: who is who, on which grid."""

from __future__ import annotations

from collections.abc import Sequence

from .common.data.checks import require_sound
from .common.data.datalist import Datalist, read_datalist
from .common.data.selection import few_labeled, scored_cases, strip_labels
from .common.grid.grid import plan_grid


class FewLabelCohort:
    """Read and check a data set for learning from few labels; of the training labels only the chosen ones are opened.

    Args:
        dataset_dir: folder with a `dataset.json` in MSD layout.
        datalist: its file name; or what a client has given (`client_datalist`).
        num_labeled: how many of the training cases that have a label count as labelled; None for all of them.
        labeled: ids of the labelled cases, in the place of a draw.
        seed: of the draw.
        spatial_size, pixdim, max_voxels, divisor: see `plan_grid`.
        federated: the data of one site of several: `num_labeled` is then the most that count as labelled, and there may
            be none, where other sites have some.

    Attributes:
        labeled: the cases whose label is learnt from; case, image and label.
        unlabeled: all others of training and unlabeled; case and image alone.
        cases: both, the labelled ones first.
        scored: cases whose truth may be looked at: the labelled test cases, else the labelled validation cases.
        grid: {"spatial_size", "pixdim", "label_values"} of what is deployed.

    Raises:
        InputError: everything that is wrong with the data set, one line a problem.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: str | Datalist = "dataset.json",
        num_labeled: int | None = None,
        labeled: Sequence[str] | str | None = None,
        seed: int = 0,
        spatial_size: Sequence[int] | None = None,
        pixdim: Sequence[float] | None = None,
        max_voxels: int = 98304,
        divisor: int = 8,
        federated: bool = False,
    ) -> None:
        content = read_datalist(dataset_dir, datalist)
        self.name, self.labels = content.name, content.labels
        # the command line hands over words
        num_labeled = None if num_labeled in ("null", "None") else num_labeled
        labeled = None if labeled in ("null", "None") else labeled
        spatial_size = None if spatial_size in ("null", "None") else spatial_size
        pixdim = None if pixdim in ("null", "None") else pixdim
        count = sum("label" in case for case in content.training)
        if federated and labeled is None:
            num_labeled = count if num_labeled is None else min(num_labeled, count)
        if federated and num_labeled == 0:
            chosen, self.unlabeled = [], strip_labels(content.training + content.unlabeled)
        else:
            chosen, self.unlabeled = few_labeled(content, num_labeled, seed, labeled)
        self.labeled = [{key: case[key] for key in ("case", "image", "label")} for case in chosen]
        self.cases = self.labeled + self.unlabeled
        self.scored = scored_cases(content)
        require_sound(
            self.labeled,
            self.unlabeled,
            self.scored,
            label_values=self.labels,
            dataset_dir=content.directory,
            needs_foreground=[case["case"] for case in self.labeled],
        )
        self.grid: dict[str, list] = plan_grid(self.cases, spatial_size, pixdim, max_voxels, divisor, content.grid)
        self.grid["label_values"] = list(self.labels)
