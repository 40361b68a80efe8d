"""Whole runs of zero_step.json: what they leave and open, and that inference.json gives what they gave."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from support.bundle.path import import_bundle
from support.bundle.run import SEMISAM, files_below, files_opened, scores, weights
from support.networks.tiny_sam import tiny_sam

network = import_bundle("semisam_plus", "zero_step.network")
client = import_bundle("semisam_plus", "zero_step.client")
InputError = import_bundle("semisam_plus", "common.errors").InputError
SETTINGS = {"generalist": "mobile_sam", "generalist_image_size": 64, "prompt": "box, box+mask", "num_labeled": 2}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Tiny SAMs in the place of MobileSAM; without the published weights others than with them."""

    def build(name, checkpoint=None, image_size=None, pretrained=True):
        return tiny_sam(image_size or 64, seed=0 if pretrained else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "build_sam", build)
        yield


@pytest.fixture(scope="module")
def made(tiny, tiny_cohort, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("zero_step")
    with files_opened() as opened:
        flow, said = SEMISAM.run(["zero_step.json"], folder, tiny_cohort, **SETTINGS)
    return {"folder": folder, "flow": flow, "said": said, "opened": opened, "cohort": tiny_cohort}


def test_a_run_leaves_model_scores_and_report_with_the_copied_masks_beside(made):
    folder = made["folder"]
    found = {name for name in files_below(folder) if not name.startswith("cache/")}
    wanted = {"output/report.html", "output/run.json", "output/metrics.csv", "output/metrics.json", "ckpt/model.pt"}
    assert found == wanted
    assert all({"dice", "copied dice", "copied hd95"} <= row.keys() for row in scores(folder / "output/metrics.json"))
    told = json.loads((folder / "output" / "run.json").read_text(encoding="utf-8"))
    results = told["results"]
    assert results["labeled"] == 2 and results["slices"] > 2 and len(results["verdicts"]) == 1
    assert {"supports", "evaluate"} <= set(told["stages"])
    assert "nearest slice, copied" in (folder / "output" / "report.html").read_text(encoding="utf-8")


def test_of_the_training_labels_only_those_of_the_labelled_cases_are_opened(made):
    labelled = {case["case"] for case in made["flow"].parser.get_parsed_content("cohort").labeled}
    content = json.loads((made["cohort"] / "dataset.json").read_text(encoding="utf-8"))
    labels = {Path(item["label"]).name.partition(".")[0] for item in content["training"]}
    opened = {Path(path).name.partition(".")[0] for path in made["opened"] if Path(path).parent.name == "labelsTr"}
    assert opened & labels == labelled and len(labelled) == 2


def test_what_is_kept_is_compact_and_names_no_file(made):
    tensors = weights(made["folder"] / "ckpt" / "model.pt")
    assert tensors["body.supports.features"].dtype == torch.float16
    assert tensors["body.supports.labels"].dtype == torch.uint8
    assert str(made["cohort"]).encode() not in (made["folder"] / "ckpt" / "model.pt").read_bytes()


def test_inference_json_gives_what_the_run_gave(made, tmp_path):
    cohort = made["flow"].parser.get_parsed_content("cohort")
    image = Path(cohort.scored[0]["image"])
    model = made["folder"] / "ckpt" / "model.pt"
    SEMISAM.run(["inference.json"], tmp_path, image, kind="inference", ckpt_path=str(model), device="cpu")
    (written,) = (tmp_path / "output").rglob("*.nii.gz")
    found, label = (np.asarray(nibabel.load(path).dataobj) for path in (written, cohort.scored[0]["label"]))
    rows = [row for row in scores(made["folder"] / "output/metrics.json") if row["case"] == cohort.scored[0]["case"]]
    values = {name: value for value, name in cohort.labels.items()}
    for row in rows:
        first, second = found == values[row["name"]], label == values[row["name"]]
        wanted = 2 * (first & second).sum() / (first.sum() + second.sum())
        assert row["dice"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"num_labeled": 0}, "num_labeled is 0"),
        ({"labeled": ["nobody"]}, "nobody"),
        ({"num_labeled": 99}, "99"),
    ],
)
def test_a_wrong_labelled_set_is_one_line_before_anything_is_opened(settings, line, tiny_cohort, tmp_path):
    with files_opened() as opened, pytest.raises(Exception) as raised:  # of the bundle's own common
        SEMISAM.run(["zero_step.json"], tmp_path, tiny_cohort, **{**SETTINGS, **settings})
    problems = import_bundle("semisam_plus", "common.errors").find_input_error(raised.value).problems
    assert len(problems) == 1 and line in problems[0], problems
    assert not [path for path in opened if path.endswith((".nii.gz", ".nii"))]
    assert not (tmp_path / "ckpt" / "model.pt").exists()


def test_without_a_client_the_run_of_train_json_says_what_to_do_and_a_first_label_is_not_gone_on_from(made):
    with pytest.raises(InputError, match=r"run zero_step\.json"):
        client.run_zero_step(None)
    assert client.trained_model(str(made["folder"] / "ckpt" / "model.pt")) is None
    assert client.trained_model(str(made["folder"] / "nothing.pt")) is None
