"""Stand-ins for ADA-SAM's bundle tests: a tiny SAM in place of any name, a cohort and labels of two ellipsoids."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from common.grid.grid import Grid
from support.weakmedsam.fake import LABELS, SIZE, SPACING, grid_image, one_hot, presence, structures

LABELLED = {"case_0": [3, 5]}


def cohort(count: int = 2) -> SimpleNamespace:
    """Return what stands for a `FewSlicesCohort` of `count` cases, the first of which has two masks."""
    return SimpleNamespace(
        name="cohort",
        labels=LABELS,
        cases=[{"case": f"case_{n}", "image": f"case_{n}.nii.gz"} for n in range(count)],
        scored=[1],
        slice_axis=2,
        slice_size=SIZE[:2],
        label_slices=LABELLED,
        one_piece=[False, True, True],
        positive_share={1: 0.4, 4: 0.5},
        grid=Grid(SIZE, SPACING, tuple(LABELS)),
        slice_grid=Grid(SIZE, SPACING, tuple(LABELS)),
        describe=lambda: "masks on 2 slices of 1 cases, presence bits on all 20 slices of 2 cases",
    )


def images(count: int = 2) -> list[dict[str, Any]]:
    """Return what stands for the prepared training volumes."""
    items = []
    for n in range(count):
        annotated = torch.zeros(1, *SIZE)
        annotated[..., LABELLED.get(f"case_{n}", [])] = 1
        label = structures()[None] * annotated
        item = {"case": f"case_{n}", "image": grid_image(n), "presence": presence()}
        items.append(item | {"label": MetaTensor(label), "annotated": MetaTensor(annotated)})
    return items


class FakeLabeller:
    """Stands for a `PseudoLabeller` that has run: the truth, and one flag for the second case."""

    def __init__(self, cohort_: Any) -> None:
        self.cohort = cohort_
        self.cases = [case["case"] for case in cohort_.cases]

    def load(self, case: str) -> dict[str, Tensor]:
        return {"target": one_hot(), "weight": torch.ones(1, *SIZE)}

    def judgement(self, case: str) -> dict[str, Any]:
        jumps = ["jump"] if case == "case_1" else []
        return {
            "volume_ml": {"1": 1.25, "4": 2.5},
            "agreement": {"1": 0.75, "4": 0.5} if case == "case_0" else {"1": None, "4": None},
            "flags": {"1": jumps, "4": []},
            "box_overlap": {"1": 0.9, "4": None},
            "neighbour_dice": {"1": 0.25 if jumps else 0.9, "4": 0.9},
            "runs": {"1": 1, "4": 1},
            "jump_slices": {"1": [5] if jumps else [], "4": []},
        }

    def rows(self) -> list[dict[str, Any]]:
        return [{"case": case} for case in self.cases]
