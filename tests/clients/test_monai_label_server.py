"""Packed bundles in MONAI Label's own server: asked through REST, as 3D Slicer and OHIF ask it."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from common.sam.weights.known import bring_weights
from support.bundle.run import weights
from support.clients.monailabel_server import (
    GRID,
    RUNS,
    Server,
    copy_app,
    install,
    make_repository,
    make_studies,
    serve,
)
from tools import which_next
from tools.describe_model import describe_model
from tools.torchvision_remedy import apply

NAMES = sorted(RUNS)
OTHER = "semisam_plus_next"  # SemiSAM+ once more, of another version, with another `common`
UNTRAINED = "semisam_plus_own"  # and without a model, with names of a site's own
FIRST = "semisam_plus_first"  # and with a model that a first label takes the place of
OWN_NAMES = ["Lobe", "vessel", "pouch", "pulp", "filter"]
SCANS = [f"scan_{number}" for number in range(6)]
LEARNS_WITHOUT_LABELS = ("rrl_medsam", "semisam_plus", "sam_adapters")
MARK = 5
# the change in the second version's `common`: every voxel of a label map has one value
MARKED = f"""

_written = ToNativeGridd.__call__


def _marked(self, data):
    result = _written(self, data)
    result["pred"][...] = {MARK}
    return result


ToNativeGridd.__call__ = _marked
"""


@pytest.fixture(scope="module")
def server(monailabel_python, client_environment, tiny_cohort, tmp_path_factory):
    """A server with all four bundles and one of them twice."""
    apply(monailabel_python)
    bring_weights("mobile_sam")  # as `make demo` does
    folder = tmp_path_factory.mktemp("label")
    environment = client_environment(monailabel_python)
    app = copy_app(monailabel_python, environment, folder)
    bundles = make_repository(folder / "repository", *NAMES)
    for name in NAMES:
        install(bundles / name, app / "model")
    install(make_other_version(folder / "other"), app / "model")
    install(make_untrained(folder / "untrained"), app / "model")
    install(make_copy(folder / "first", FIRST), app / "model")
    studies = make_studies(tiny_cohort, folder / "studies")
    which_next.install(app)
    environment |= {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}  # else it ranks after each request for a scan, too
    models = (*NAMES, OTHER, UNTRAINED, FIRST)
    with serve(monailabel_python, environment, app, studies, *models, next_model="semisam_plus") as running:
        yield running


def make_other_version(folder: Path) -> Path:
    bundles = make_repository(folder, "semisam_plus")
    (bundles / "semisam_plus").rename(bundles / OTHER)
    metadata = bundles / OTHER / "configs" / "metadata.json"
    content = json.loads(metadata.read_text(encoding="utf-8")) | {"version": "9.9.9"}
    metadata.write_text(json.dumps(content), encoding="utf-8")
    code = folder / "common" / "grid" / "native.py"
    code.write_text(code.read_text(encoding="utf-8") + MARKED, encoding="utf-8")
    return bundles / OTHER


def make_untrained(folder: Path) -> Path:
    bundle = make_repository(folder, "semisam_plus") / "semisam_plus"
    (bundle / "models" / "model.pt").unlink()
    describe_model(bundle, ["background", *OWN_NAMES], None)
    return bundle.rename(bundle.with_name(UNTRAINED))


def make_copy(folder: Path, name: str) -> Path:
    bundle = make_repository(folder, "semisam_plus") / "semisam_plus"
    return bundle.rename(bundle.with_name(name))


def own_answer(name: str, server: Server, scan: str, folder: Path) -> nibabel.Nifti1Image:
    """Return what inference.json writes for a scan, run by MONAI's bundle workflow without any server."""
    config = server.app / "model" / name / "configs" / "inference.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    settings = {key: content[key] for key in RUNS[name].tiny if key in content}
    settings |= {"ckpt_path": str(server.app / "model" / name / "models" / "model.pt"), "device": "cpu"}
    image = server.studies / f"{scan}.nii.gz"
    RUNS[name].run(["inference.json"], folder, image, kind="inference", **settings)
    (written,) = (folder / "output").rglob("*.nii.gz")
    return nibabel.load(written)


def test_info_names_the_labels_of_the_metadata_and_the_versions(server):
    info = server.ask("/info/")
    for name in [*NAMES, OTHER]:
        content = json.loads((server.app / "model" / name / "configs" / "metadata.json").read_text(encoding="utf-8"))
        channels = content["network_data_format"]["outputs"]["pred"]["channel_def"]
        model = info["models"][name]
        assert model["labels"] == {label: int(value) for value, label in channels.items() if value != "0"}
        assert model["dimension"] == 3 and model["type"] == "segmentation"
        assert model["description"] == content["description"] and model["version"] == content["version"]
        assert info["trainers"][name]["version"] == content["version"]
    assert info["models"][OTHER]["version"] == "9.9.9" != info["models"]["semisam_plus"]["version"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scan", ["scan_0", "scan_2", "scan_3"])
def test_infer_answers_on_the_grid_of_the_scan_with_what_inference_json_writes(server, name, scan, tmp_path):
    image, found = nibabel.load(server.studies / f"{scan}.nii.gz"), server.segment(name, scan)
    assert found.shape == image.shape and np.allclose(found.affine, image.affine, atol=1e-4)
    labels = np.asarray(found.dataobj)
    assert set(np.unique(labels)) <= set(GRID["label_values"]) and len(np.unique(labels)) > 1
    wanted = np.asarray(own_answer(name, server, scan, tmp_path).dataobj)
    assert (labels == wanted).mean() > 0.999


@pytest.mark.parametrize("name", NAMES)
def test_infer_answers_in_json(server, name):
    answer = json.loads(server.infer(name, "scan_4", "json"))
    labels = server.ask("/info/")["models"][name]["labels"]
    assert answer["label_names"] == labels
    rows = answer["review"]
    assert [row["label"] for row in rows] == sorted(labels.values())
    assert all(0 <= row["low"] <= row["predicted_dice"] <= row["high"] <= 1 for row in rows)
    assert all(row["view"] is not None for row in rows)  # looked at twice, by the server's own copy of the network


def test_two_versions_answer_by_their_own_code_whichever_was_asked_before(server):
    first = np.asarray(server.segment("semisam_plus", "scan_1").dataobj)
    assert not (first == MARK).all()
    for _ in range(2):
        assert (np.asarray(server.segment(OTHER, "scan_1").dataobj) == MARK).all()
        assert np.array_equal(np.asarray(server.segment("semisam_plus", "scan_1").dataobj), first)


def test_an_unknown_image_or_model_is_an_error_and_the_server_goes_on(server):
    for model, image in (("semisam_plus", "nobody"), ("nothing", "scan_0")):
        with pytest.raises(urllib.error.HTTPError) as error:
            server.infer(model, image, "image")
        assert error.value.code >= 400
    assert server.segment("semisam_plus", "scan_0").shape


def test_active_learning_names_a_scan_without_a_label(server):
    assert server.ask("/activelearning/random", {})["id"] in SCANS[3:]


def test_scans_without_a_label_are_ranked_by_their_review_and_served_in_that_order(server):
    assert "POST /scoring/which_next" in server.ask("/activelearning/which_next", {})["why"]
    assert set(server.ask("/info/")["strategies"]) == {"random", "first", "which_next"}
    assert server.ask("/scoring/which_next", {"device": "cpu"}, "POST")["status"] == "SUBMITTED"  # as it does by itself
    state = server.wait("/scoring/")
    assert state["status"] == "DONE", state["details"]
    served = [server.ask("/activelearning/which_next", {}) for _ in SCANS[3:]]
    assert sorted(one["id"] for one in served) == SCANS[3:]
    assert [one["which_next"]["rank"] for one in served] == [1, 2, 3]
    for one in served:
        rows = json.loads(server.infer("semisam_plus", one["id"], "json"))["review"]
        dice = [row["predicted_dice"] for row in rows if row["volume_ml"] > 0]
        assert one["which_next"]["predicted_dice"] == pytest.approx(np.mean(dice), abs=0.002)
        assert one["why"].startswith(f"number {one['which_next']['rank']}: a Dice of about ")
    products = [(1 - own["predicted_dice"]) * own["unlike"] for own in (one["which_next"] for one in served)]
    if not any(one["which_next"]["alone"] for one in served):
        assert products == sorted(products, reverse=True)  # what is near to a proposed scan waits


def test_a_label_whose_segments_were_submitted_in_another_order_is_not_learnt_from(server):
    names, label = list(server.ask("/info/")["models"]["semisam_plus"]["labels"]), server.app.parent / "scan_1.nii.gz"
    shutil.copy(server.studies / "labels" / "final" / "scan_1.nii.gz", label)
    server.submit("scan_1", label, *reversed(names))
    try:
        server.ask("/train/semisam_plus", {"device": "cpu", "max_epochs": 1, "val_split": 0}, "POST")
        state = server.wait("/train/")
    finally:
        server.submit("scan_1", label, *names)
    assert state["status"] == "ERROR"
    said = [line for line in state["details"] if line.startswith("error: ")]
    assert len(said) == 1 and "scan_1.nii.gz: was submitted with the segments kidney 1, spleen 2" in said[0]


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_the_model_and_infer_uses_the_new_one(server, name):
    bundle = server.app / "model" / name
    before, answer = weights(bundle / "models" / "model.pt"), server.segment(name, "scan_0")
    body = {"device": "cpu", "max_epochs": 1, "val_split": 0.3 if name == "weakmedsam" else 0}
    if name == "semisam_plus":  # as the viewers do: in a process of its own, and asked how it goes
        assert server.ask(f"/train/{name}", body, "POST")["status"] == "SUBMITTED"
        state = server.wait("/train/")
        assert state["status"] == "DONE", state["details"]
    else:
        assert server.ask(f"/train/{name}?run_sync=true", body, "POST") == {}
    after = weights(bundle / "models" / "model.pt")
    assert {key: value.shape for key, value in after.items()} == {key: value.shape for key, value in before.items()}
    assert all(torch.equal(after[key], before[key]) for key in GRID)
    learnt = [key for key in before if before[key].is_floating_point() and key not in GRID]
    changed = [key for key in learnt if not torch.equal(before[key], after[key])]
    assert len(changed) > len(learnt) / 2
    # a few small steps: weights drawn anew would be further away
    distance = sum(float((after[key] - before[key]).norm()) for key in learnt)
    assert 0 < distance < 0.5 * sum(float(before[key].norm()) for key in learnt)
    assert not np.array_equal(np.asarray(server.segment(name, "scan_0").dataobj), np.asarray(answer.dataobj))
    told = json.loads((bundle / "eval" / "run.json").read_text(encoding="utf-8"))
    assert told["config"]["train"]["max_epochs"] == 1 and told["results"]["grid"] == GRID
    unlabeled = 3 if name in LEARNS_WITHOUT_LABELS else 0
    labeled = 2 if name == "weakmedsam" else 3
    counts = {"training": labeled, "validation": 3 - labeled, "test": 0, "unlabeled": unlabeled}
    assert told["dataset"]["cases"] == counts
    if name == "rrl_medsam":
        assert told["results"]["unlabeled"] == 5 and told["results"]["atlas"] in SCANS[:3]
    if name == "semisam_plus":
        assert told["results"]["unlabeled"] == 3 and told["results"]["labeled"] == 3
    assert not (bundle / "data").exists()  # no sample cohort was made


def test_batch_inference_fills_the_original_labels_which_no_training_opened(server):
    original = server.studies / "labels" / "original"
    assert all((original / f"{scan}.nii.gz").read_bytes() == b"no label at all" for scan in SCANS[3:])
    body = {"device": "cpu", "multi_gpu": False, "save_label": True, "label_tag": "original", "max_workers": 1}
    server.ask("/batch/infer/semisam_plus?images=unlabeled&run_sync=true", body, "POST")
    for scan in SCANS[3:]:
        image, found = (nibabel.load(folder / f"{scan}.nii.gz") for folder in (server.studies, original))
        assert found.shape == image.shape and set(np.unique(found.dataobj)) <= set(GRID["label_values"])


def test_a_bundle_without_a_model_is_trained_by_the_server_and_served_after_its_next_start(
    server, monailabel_python, client_environment
):
    assert UNTRAINED in server.ask("/info/")["trainers"] and UNTRAINED not in server.ask("/info/")["models"]
    names, label = list(server.ask("/info/")["models"]["semisam_plus"]["labels"]), server.app.parent / "own.nii.gz"
    shutil.copy(server.studies / "labels" / "final" / "scan_1.nii.gz", label)
    server.submit("scan_1", label, *OWN_NAMES)
    body = {"device": "cpu", "max_epochs": 1, "val_split": 0}
    try:
        assert server.ask(f"/train/{UNTRAINED}?run_sync=true", body, "POST") == {}
    finally:
        server.submit("scan_1", label, *names)
    environment = client_environment(monailabel_python)
    with serve(monailabel_python, environment, server.app, server.studies, UNTRAINED, log="second.log") as again:
        assert set(again.ask("/info/")["models"][UNTRAINED]["labels"]) == {name.lower() for name in OWN_NAMES}
        image, found = nibabel.load(server.studies / "scan_2.nii.gz"), again.segment(UNTRAINED, "scan_2")
        assert found.shape == image.shape and np.allclose(found.affine, image.affine, atol=1e-4)


def test_a_first_label_without_training_is_served_at_once_and_training_does_not_go_on_from_it(server):
    model = server.app / "model" / FIRST / "models" / "model.pt"
    before = np.asarray(server.segment(FIRST, "scan_4").dataobj)
    body = {"device": "cpu", "max_epochs": 1, "val_split": 0, "run_id": "zero_step"}
    assert server.ask(f"/train/{FIRST}", body, "POST")["status"] == "SUBMITTED"
    state = server.wait("/train/")
    assert state["status"] == "DONE", state["details"]
    tensors = weights(model)
    assert (
        tensors["body.supports.cases"].unique().tolist() == [0, 1, 2] and tensors["pixdim"].tolist() == GRID["pixdim"]
    )
    image, found = nibabel.load(server.studies / "scan_4.nii.gz"), server.segment(FIRST, "scan_4")
    assert found.shape == image.shape and np.allclose(found.affine, image.affine, atol=1e-4)
    labels = np.asarray(found.dataobj)
    assert not np.array_equal(labels, before) and len(np.unique(labels)) > 2
    # a labelled scan has a vote among three on its own slices, in a cohort of strongly differing shapes
    own = np.asarray(nibabel.load(server.studies / "labels" / "final" / "scan_0.nii.gz").dataobj) > 0
    again = np.asarray(server.segment(FIRST, "scan_0").dataobj) > 0
    assert 2 * (own & again).sum() / (own.sum() + again.sum()) > 0.5
    body = {"device": "cpu", "max_epochs": 1, "val_split": 0}
    assert server.ask(f"/train/{FIRST}?run_sync=true", body, "POST") == {}
    assert "body.supports.cases" not in weights(model)


def test_nothing_of_this_repository_is_on_the_servers_path(server):
    said = server.log.read_text(encoding="utf-8", errors="replace")
    assert str(Path(__file__).parents[2]) + os.sep + "common" not in said
