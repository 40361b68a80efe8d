from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch

from common.errors import InputError
from support.bundle.path import BUNDLES, import_bundle
from tools.federation.sites import Plan, Site, plan, score, write_model

SETTINGS = {"max_voxels": 8192, "channels": [4, 8], "strides": [2], "num_labeled": None}
BUNDLE = BUNDLES / "semisam_plus"


@pytest.fixture
def two(tiny_cohort, tmp_path, monkeypatch) -> list[Site]:
    """Two sites with the code of the repository; the second has no label at all."""
    import_bundle(BUNDLE.name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    other = Path(shutil.copytree(tiny_cohort, tmp_path / "other"))
    content = json.loads((other / "dataset.json").read_text(encoding="utf-8"))
    content["training"] = [{"image": case["image"]} for case in content["training"]]
    (other / "dataset.json").write_text(json.dumps(content))
    return [Site("A", tiny_cohort, bundle=BUNDLE), Site("B", other, bundle=BUNDLE)]


def change(site: Site, key: str, value) -> None:
    path = site.dataset_dir / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {key: value}))


def test_the_plan_is_one_grid_the_labels_and_first_weights_of_that_grid(two):
    found = plan(two, SETTINGS, seed=3)
    assert [site.labeled for site in two] == [True, False] and found.settings["federated"] is True
    assert found.labels[0] == "background" and len(found.labels) == 6
    assert found.weights["spatial_size"].tolist() == found.grid["spatial_size"]
    assert found.weights["pixdim"].tolist() == pytest.approx(found.grid["pixdim"])
    again = plan(two, SETTINGS, seed=3).weights
    assert all(torch.equal(again[name], value) for name, value in found.weights.items())
    assert not all(torch.equal(plan(two, SETTINGS, seed=4).weights[name], v) for name, v in found.weights.items())


def test_a_model_gives_weights_and_grid(two, tmp_path):
    first = plan(two, {**SETTINGS, "spatial_size": [24, 16, 16], "pixdim": [2.5, 2.5, 3.0]}, seed=3)
    torch.save(first.weights, tmp_path / "model.pt")
    found = plan(two, SETTINGS, start=tmp_path / "model.pt", seed=5)
    same = {"spatial_size": [24, 16, 16], "pixdim": [2.5, 2.5, 3.0]}
    assert found.grid == {**same, "intensity_range": "percentiles"}  # no site measures its own
    assert all(torch.equal(found.weights[name], value) for name, value in first.weights.items())


def test_a_site_that_has_nothing_to_score_gets_no_score_and_is_no_error(two, tmp_path):
    change(two[1], "test", [])
    change(two[1], "validation", [])
    found = plan(two, SETTINGS)
    assert [site.scored for site in two] == [True, False]
    assert math.isnan(score(two[1], found, tmp_path / "model.pt", tmp_path / "scores"))


def test_sites_that_cannot_learn_together_end_in_one_line_each(two):
    with pytest.raises(InputError, match=r"^numlabeled: no such key in train.json of semisam_plus$"):
        plan(two, {**SETTINGS, "numlabeled": 1})
    two[0].settings["num_labeled"] = 0
    with pytest.raises(InputError, match="none of the sites A, B has a label"):
        plan(two, SETTINGS)
    two[0].settings.clear()
    content = json.loads((two[1].dataset_dir / "dataset.json").read_text(encoding="utf-8"))
    change(two[1], "labels", {**content["labels"], "1": "spleen", "4": "liver"})
    with pytest.raises(InputError, match=r"site B has the labels .*1: 'spleen'.* wanted those of site A"):
        plan(two, SETTINGS)
    change(two[1], "training", [])
    with pytest.raises(InputError, match=r"site B: dataset.json: training is missing or empty"):
        plan(two, SETTINGS)


def test_the_global_model_has_the_names_shapes_and_grid_of_the_start(tmp_path):
    weights = {"body.weight": torch.zeros(2, 3), "pixdim": torch.tensor([1.0, 1.0, 2.0])}
    shared = Plan({}, {}, {}, weights)
    result = tmp_path / "FL_global_model.pt"
    torch.save({"model": {"body.weight": torch.ones(2, 3), "pixdim": weights["pixdim"]}, "train_conf": {}}, result)
    write_model(result, shared, tmp_path / "models" / "model.pt")
    found = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert found.keys() == weights.keys() and bool((found["body.weight"] == 1).all())
    torch.save({"model": {"body.weight": torch.ones(3, 3), "pixdim": weights["pixdim"] * 1.001}}, result)
    with pytest.raises(InputError) as error:
        write_model(result, shared, tmp_path / "other.pt")
    assert len(error.value.problems) == 2 and "pixdim is" in error.value.problems[1]
    assert not (tmp_path / "other.pt").exists()
