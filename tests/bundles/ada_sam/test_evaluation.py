from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from support.bundle.path import import_bundle
from support.weakmedsam.fake import LABELS, SIZE, SPACING, grid_image, one_hot, structures

module = import_bundle("ada_sam", "evaluation")
VALUES = list(LABELS)


def volume() -> SimpleNamespace:
    """Stand for an AdaSamVolume: the embedding of a volume is its mean."""
    return SimpleNamespace(embed=lambda image: image.mean())


def answering(probabilities: torch.Tensor, told: list | None = None):
    """Stand for a VolumeInference that always gives one answer, and notes what it was given."""

    def infer(embeddings, size, bits):
        if told is not None:
            told.append((embeddings, size, bits))
        return SimpleNamespace(probabilities=probabilities)

    return infer


def item(label: torch.Tensor | None = None) -> dict:
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    values = torch.tensor(VALUES)[structures()][None].int() if label is None else label
    return {"image": grid_image(), "label": MetaTensor(values, affine=affine), "pred": one_hot()}


def test_each_way_through_the_volume_is_scored_on_the_native_grid():
    half = one_hot()
    half[:, :, :4] = torch.tensor([1.0, 0, 0]).view(3, 1, 1, 1)
    ways = {"itself": answering(one_hot()), "slices": answering(half), "none": None}
    columns = module.AddAdaSamd(volume(), ways, VALUES)(item())[module.COMPARED]
    assert set(columns) == {"itself dice", "slices dice"}
    assert columns["itself dice"] == {1: 1.0, 4: 1.0}
    for value, one, other in zip((1, 4), one_hot()[1:], half[1:], strict=True):
        wanted = 2 * float((one * other).sum()) / float((one + other).sum())
        assert columns["slices dice"][value] == pytest.approx(wanted)
    assert module.ComparedColumns()({module.COMPARED: columns}) == columns


def test_a_plain_unet_stands_beside_them(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "segment_slices", lambda *given: seen.append(given) or one_hot())
    given = volume()
    given.slice_axis, given.context = torch.tensor(1.0), 1
    columns = module.AddAdaSamd(given, {}, VALUES, unet="unet")(item())[module.COMPARED]
    assert columns == {"unet dice": {1: 1.0, 4: 1.0}}
    network, planes, axis = seen[0]
    assert (network, axis) == ("unet", 1) and planes.shape == (SIZE[1], 3, SIZE[0], SIZE[2])
    assert torch.equal(planes[4, 0], grid_image()[0, :, 3])
    assert module.AddAdaSamd(None, {}, VALUES, unet="unet")(item())[module.COMPARED] == {}


def test_nothing_of_the_truth_reaches_the_answer(monkeypatch):
    told, scored = [], []
    monkeypatch.setattr(
        module, "case_metrics", lambda pred, *rest: scored.append(pred) or {1: {"dice": 0.5}, 4: {"dice": 0.5}}
    )
    transform = module.AddAdaSamd(volume(), {"itself": answering(one_hot() * 0.9, told)}, VALUES)
    transform(item())
    transform(item(torch.full((1, *SIZE), torch.nan)))  # masks of NaN
    assert torch.equal(*scored)
    for embedding, size, bits in told:
        assert embedding == grid_image().mean() and size == SIZE and bits is None


def test_without_a_sam_nothing_is_added_and_nothing_encoded():
    for given in (
        module.AddAdaSamd(None, {"itself": answering(one_hot())}, VALUES),
        module.AddAdaSamd(volume(), {}, VALUES),
    ):
        assert given(item())[module.COMPARED] == {}
    assert module.ComparedColumns()({"pred": np.zeros(1)}) == {}
