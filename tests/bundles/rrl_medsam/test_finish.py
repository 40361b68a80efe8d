"""The end of a run, on data sets that have truth for some cases, for validation only, or for none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from support.bundle.run import RRL, subset_cohort
from support.report.page import check_page


class Page:
    """What a report shows: the number of its pictures, tables and curves, its headings and its text."""

    def __init__(self, path: Path) -> None:
        self.html = path.read_text(encoding="utf-8")
        self.tables = len(re.findall(r"<table\b", self.html))
        self.pictures = len(check_page(self.html).all("img")) // 2  # a small one and a large one


def finish(data: Path, folder: Path, **options) -> tuple[dict, Page, str]:
    quick = {"atlas": None, "epochs": 1, "rounds": 1, "epoch_length": 2, "instance_steps": 1, "coarse_steps": 1}
    _, said = RRL.run(["train.json"], folder, data, **{**quick, **options})
    return (
        json.loads((folder / "output" / "run.json").read_text(encoding="utf-8")),
        Page(folder / "output" / "report.html"),
        said,
    )


@pytest.fixture(scope="module")
def scored(tiny_cohort, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("a place that must not be told")
    data = subset_cohort(tiny_cohort, folder / "data of the clinic", training=3, test=1)
    manifest, page, said = finish(data, folder)
    return {"folder": folder, "manifest": manifest, "page": page, "said": said}


def test_manifest_says_what_came_out_and_nothing_about_the_place(scored):
    manifest, text = scored["manifest"], (scored["folder"] / "output" / "run.json").read_text(encoding="utf-8")
    assert str(scored["folder"]) not in text and "imagesTr" not in text and "sample_006" not in text
    assert not re.findall(r"\"/[\w/]+", text)
    results = manifest["results"]
    assert results["labeled"] == 1 and results["unlabeled"] == 2
    assert results["learnt_from"] == 3 and results["sam"] is None and results["bundle"].startswith("RRL-MedSAM")
    assert results["grid"]["label_values"] == [0, 1, 2, 3, 4, 5]
    assert set(results["dice"]) == {"liver", "portal_vessel", "stomach", "spleen", "kidney", "overall"}
    assert all(0 <= score <= 1 for row in results["dice"].values() for score in row.values())
    config = manifest["config"]
    assert config["train"]["max_epochs"] == 1 and config["run"]["dataset_dir"] == "…/data of the clinic"
    assert config["labeller"]["instance_steps"] == 1 and config["distill"]["optimizer"]["lr"] == 0.003
    assert config["finer"]["steps"] == 20 and config["train"]["augmentation"]["rotate"] == 0.5
    assert {"load volumes", "affine", "register", "registration", "train", "evaluate"} <= set(manifest["stages"])


def test_report_shows_tables_pictures_and_limits_without_any_address(scored):
    page = scored["page"]
    assert page.tables >= 4  # summary, cases, pseudo labels, cost
    assert page.pictures == 4  # a case, the atlas, two pseudo labels
    assert str(scored["folder"]) not in page.html
    for words in ("label propagation", "Masks of the last round", "sample_006", "distillation stage was left"):
        assert words in page.html, words


def test_table_compares_with_propagation_on_the_same_cases(scored):
    said, dice = scored["said"], scored["manifest"]["results"]["dice"]["overall"]
    row = next(line for line in said.splitlines() if "overall" in line)
    numbers = [float(number) for number in re.findall(r"[-+]?\d\.\d{3}", row)]
    wanted = [dice["propagation"], dice["method"], dice["method"] - dice["propagation"]]
    assert numbers == pytest.approx(wanted, abs=6e-4)


@pytest.mark.slow
def test_an_earlier_model_is_kept(scored, tiny_cohort):
    folder = scored["folder"]
    first = torch.load(folder / "ckpt" / "model.pt", weights_only=True)
    finish(folder / "data of the clinic", folder, seed=1)
    kept = torch.load(folder / "ckpt" / "model.previous.pt", weights_only=True)
    now = torch.load(folder / "ckpt" / "model.pt", weights_only=True)
    assert all(torch.equal(kept[name], first[name]) for name in first)
    assert not all(torch.equal(now[name], first[name]) for name in first)


def test_without_any_truth_there_is_a_model_and_a_report(tiny_cohort, tmp_path):
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3)
    content = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    atlas = content["training"][0]["image"].split("/")[-1].split(".")[0]
    content["unlabeled"] = [case["image"] for case in content["training"][1:]]
    del content["training"][1:]
    (data / "dataset.json").write_text(json.dumps(content))
    manifest, page, said = finish(data, tmp_path)
    assert "no case with a label to score" in said and "medoid" not in said
    assert manifest["results"]["dice"] == {} and manifest["results"]["atlas"] == atlas
    assert page.tables >= 2 and page.pictures == 3
    assert (tmp_path / "ckpt" / "model.pt").exists() and not (tmp_path / "output" / "metrics.csv").exists()


@pytest.mark.slow
def test_validation_is_scored_where_test_has_no_truth(tiny_cohort, tmp_path):
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3, validation=1, test=1)
    content = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    content["test"] = [case["image"] for case in content["test"]]
    (data / "dataset.json").write_text(json.dumps(content))
    manifest, page, said = finish(data, tmp_path)
    rows = json.loads((tmp_path / "output" / "metrics.json").read_text(encoding="utf-8"))["rows"]
    assert {row["case"] for row in rows} == {"sample_005"} and "mean of 1 cases" in said
    assert manifest["results"]["dice"]["overall"]["propagation"] > 0 and "sample_005" in page.html


def test_the_atlas_alone_is_enough_to_train(tiny_cohort, tmp_path):
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=1)
    manifest, page, _ = finish(data, tmp_path)
    assert manifest["results"]["unlabeled"] == 0 and manifest["results"]["learnt_from"] == 1
    assert page.pictures >= 1
