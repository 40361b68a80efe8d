from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.scoring.table import MetricsTable
from support.bundle.path import import_bundle
from support.weakmedsam.fake import (
    LABELS,
    SIZE,
    SPACING,
    FakeLabeller,
    cohort,
    grid_image,
    one_hot,
    presence,
    structures,
)

module = import_bundle("weakmedsam", "evaluation")
VALUES = list(LABELS)


class Index:
    """Stands for a SliceIndex that knows nothing: every slice scores the same."""

    def scores(self, slices):
        return np.zeros((2, len(slices.depth)))


def item() -> dict:
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    values = torch.tensor(VALUES)[structures()][None].int()
    return {"image": grid_image(), "label": MetaTensor(values, affine=affine), "pred": one_hot() * 0.8 + 0.1}


def bits() -> torch.Tensor:
    return presence()[:, 0, 0] > 0.5


def controls(labeller=None) -> module.AddControlsd:
    """Return the transform with a slice index that knows nothing."""
    transform = module.AddControlsd(cohort(), VALUES, labeller)
    transform.slice_index = Index()
    return transform


def dice(one: torch.Tensor, other: torch.Tensor) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_centre_control_is_an_ellipse_on_the_positive_slices_alone():
    found = controls().opinions(item())[module.CENTRE]
    assert found.shape == (2, *SIZE)
    assert torch.equal((found > 0.5).any(1).any(1), bits())
    inside = found[0, ..., 3] > 0.5
    wanted = np.pi / 4 * (SIZE[0] / 2) * (SIZE[1] / 2)
    assert bool(inside[8, 6]) and not bool(inside[0, 0]) and abs(int(inside.sum()) - wanted) < 0.15 * wanted


@pytest.mark.parametrize("needs_classifier", [False, True])
def test_prior_control_is_the_labellers_prior_at_its_threshold(needs_classifier):
    labeller, noted = FakeLabeller(cohort()), {}
    labeller.needs_classifier = needs_classifier
    labeller.features = SimpleNamespace(note=lambda case, image: noted.update({case: image}))
    found = controls(labeller).opinions(item())[module.PRIOR]
    assert torch.equal(found > 0.5, one_hot()[1:] > 0)
    assert list(noted) == ([module.SCORED] if needs_classifier else [])
    nothing = item()
    nothing["label"] = nothing["label"] * 0
    assert controls(labeller).opinions(nothing)[module.PRIOR].max() == 0  # slices that are known to be negative


def test_controls_are_scored_on_the_native_grid_label_by_label():
    labeller = FakeLabeller(cohort())
    labeller.needs_classifier = False
    half = one_hot()[1:]
    half[:, :, :4] = 0
    labeller.make_prior = lambda given: half
    transform = controls(labeller)
    columns = transform.columns({**transform(item()), "pred": item()["label"]})
    assert list(columns)[:4] == ["auc", "index auc", "centre dice", "prior dice"]
    ellipse = transform.opinions(item())[module.CENTRE] > 0.5
    for number, value in enumerate((1, 4)):
        truth = one_hot()[1 + number] > 0
        assert columns["prior dice"][value] == pytest.approx(dice(truth, half[number] > 0))
        assert columns["centre dice"][value] == pytest.approx(dice(truth, ellipse[number]))
    assert columns["auc"] == {1: 1.0, 4: 1.0} and columns["index auc"] == {1: 0.5, 4: 0.5}


def test_controls_are_told_the_true_slice_range_and_nothing_else():
    told, labeller = [], FakeLabeller(cohort())
    labeller.needs_classifier = False
    labeller.make_prior = lambda given: told.append(given) or one_hot()[1:]
    controls(labeller)(item())
    assert set(told[0]) == {"case", "image", "presence"} and torch.equal(told[0]["presence"], presence())


def test_per_slice_columns_stand_beside_what_was_compared():
    given = {**item(), "compared": {"auc": {1: 0.9, 4: 0.8}}}
    given["pred"] = given["label"].clone()
    found = controls().columns(given)
    assert found["auc"] == {1: 0.9, 4: 0.8}
    assert found["slice dice"] == {1: pytest.approx(1.0), 4: pytest.approx(1.0)}
    assert found["slice hd95 px"] == {1: 0.0, 4: 0.0}
    assert list(given["compared"]) == ["auc"]  # the item is left alone


def test_printed_table_leaves_the_per_slice_metric_out(capsys):
    table = MetricsTable({1: "front"})
    table.add("case", {1: {"dice": 0.5, "hd95": 1.0, "assd": 1.0}}, **{"centre dice": {1: 0.4}, "slice dice": {1: 0.9}})
    module.print_scores(table)
    said = capsys.readouterr().out
    assert "centre" in said and "slice" not in said and "0.400" in said
    assert "slice dice" in table.rows[0]  # the file keeps it
