from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from common.errors import InputError
from support.bundle.path import BUNDLES, import_bundle
from tools.federation.agreed import agreed_plan
from tools.federation.sites import Site, plan

BUNDLE = BUNDLES / "semisam_plus"
GRID = {"spatial_size": [24, 16, 16], "pixdim": [2.5, 2.5, 3.0], "intensity_range": "percentiles"}
SETTINGS = {"channels": [4, 8], "num_labeled": None, "divisor": 2, **GRID}


@pytest.fixture(autouse=True)
def bundle_code(monkeypatch):
    import_bundle(BUNDLE.name)
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_the_plan_of_what_was_agreed_on_is_that_of_sites_with_these_settings(tiny_cohort):
    site = Site("A", tiny_cohort, bundle=BUNDLE)
    for changes in ({}, {"strides": [2]}, {"intensity_range": [-160, 240]}, {"intensity_range": "-160,240"}):
        looked_at = plan([site], {**SETTINGS, **changes}, seed=3)
        found = agreed_plan(BUNDLE, {**SETTINGS, **changes}, tiny_cohort / "dataset.json", seed=3)
        assert (found.settings, found.grid, found.labels) == (looked_at.settings, looked_at.grid, looked_at.labels)
        assert found.weights.keys() == looked_at.weights.keys()
        assert all(torch.equal(found.weights[name], value) for name, value in looked_at.weights.items())


@pytest.mark.parametrize("name", ["ada_sam", "rrl_medsam", "sam_adapters", "weakmedsam"])
def test_each_bundle_has_first_weights_without_a_data_set(tiny_cohort, name):
    import_bundle(name)
    found = agreed_plan(BUNDLES / name, {**GRID, "channels": [4, 8], "strides": [2]}, tiny_cohort / "dataset.json")
    assert found.weights["spatial_size"].tolist() == GRID["spatial_size"] and found.grid["pixdim"] == GRID["pixdim"]


def test_a_model_brings_the_grid_and_has_to_have_the_labels(tiny_cohort, tmp_path):
    first = agreed_plan(BUNDLE, SETTINGS, tiny_cohort / "dataset.json", seed=3)
    model = tmp_path / "model.pt"
    torch.save(first.weights, model)
    without = {key: value for key, value in SETTINGS.items() if key not in GRID}
    found = agreed_plan(BUNDLE, without, tiny_cohort / "dataset.json", start=model, seed=5)
    assert found.grid == first.grid
    assert all(torch.equal(found.weights[name], value) for name, value in first.weights.items())
    fewer = tmp_path / "labels.json"
    fewer.write_text(json.dumps({"labels": {"0": "background", "1": "liver"}}))
    with pytest.raises(InputError, match=r"labels has the values \[0, 1\]; wanted those of .*model.pt"):
        agreed_plan(BUNDLE, without, fewer, start=model)


def test_each_thing_that_was_not_agreed_on_is_a_line():
    with pytest.raises(InputError) as error:
        agreed_plan(BUNDLE, {"pixdim": [2.5, 2.5, 3.0]}, None)
    assert [line.split(":")[0] for line in error.value.problems] == [
        "--set spatial_size",
        "--set intensity_range",
        "--labels",
    ]
    assert "such as --set spatial_size=[64,56,48]" in error.value.problems[0]


def test_labels_of_a_file_that_has_none(tmp_path):
    with pytest.raises(InputError, match=r"none.json: no such file"):
        agreed_plan(BUNDLE, SETTINGS, Path(tmp_path / "none.json"))
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(InputError, match=r"empty.json: labels missing or empty"):
        agreed_plan(BUNDLE, SETTINGS, tmp_path / "empty.json")
