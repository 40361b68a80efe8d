"""The order of ADA-SAM's stages, with what they do left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support.ada_sam.fake import cohort
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "plan")


class Told:
    """Stand for a part of a plan: write down whatever is asked of it."""

    def __init__(self, name: str, said: list[str], **known: Any) -> None:
        self.name, self.said = name, said
        vars(self).update(known)

    def __getattr__(self, asked: str) -> Any:
        def note(*_: Any) -> None:
            self.said.append(f"{self.name}.{asked}")

        return note


def done(second: object | None = "unet", labelled: bool = True) -> list[str]:
    """Return what a plan asks of its parts, in order."""
    said: list[str] = []
    run = SimpleNamespace(output_dir="out", measure=lambda name, work: work())
    network = Told("ada", said)
    plan = module.FewSlicesPlan(
        run,
        cohort(),
        volume=SimpleNamespace(network=network, inference=None),
        network=None,
        slices=Told(
            "slices",
            said,
            features=Told("features", said, all_bits={}),
            table=SimpleNamespace(images=Told("images", said)),
        ),
        classify=Told("classify", said),
        adapt=Told("adapt", said),
        adapted=Told("adapted", said),
        slice_unet=Told("slice_unet", said),
        labeller=Told("labeller", said, second=second) if labelled else None,
    )
    if labelled:
        plan.review = Told("review", said)
    plan.stages()
    return said


ADA_SAM = ["images.set_data", "features.prepare", "ada.note_extents", "slices.prepare"]
ADA_SAM += ["classify.run", "adapt.run", "adapted.write"]


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ({}, ["slice_unet.run", "labeller.run", "review.write"]),
        ({"second": None}, ["labeller.run", "review.write"]),  # the plain network has no share
        ({"labelled": False}, []),  # ADA-SAM itself is deployed
    ],
)
def test_stages_come_in_their_order_and_those_that_nobody_needs_are_left_out(options, after):
    assert done(**options) == ADA_SAM + after
