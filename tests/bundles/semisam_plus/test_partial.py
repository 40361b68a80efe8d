"""Labels that tell about some structures alone (`known_labels`) in SemiSAM+: what they teach and what is scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from support.bundle.path import import_bundle
from support.bundle.run import SEMISAM, assert_same_weights, scores, subset_cohort
from support.data.stripped_masks import strip
from support.semisam_plus.batch import CLASSES, gradients, make_batch, make_network

QUICK = {"epochs": 1, "levels": 1, "num_labeled": 2}


@pytest.fixture
def cohort(tiny_cohort, tmp_path) -> Path:
    return subset_cohort(tiny_cohort, tmp_path / "cohort", training=3, test=2)


def labelled_batch() -> dict[str, torch.Tensor]:
    """A batch whose labelled items don't tell about the last class."""
    batch = make_batch()
    batch["label"][:, 0] += batch["label"][:, -1]
    batch["label"][:, -1] = 0
    known = torch.ones(len(batch["label"]), CLASSES, dtype=torch.bool)
    known[:, -1] = False
    return batch | {"known": known}


def supervised(batch, output) -> torch.Tensor:
    base = import_bundle("semisam_plus", "methods.base")
    return base.SemiSupervisedObjective(make_network(), total_steps=10).supervised([output], batch)


def test_probability_moved_between_background_and_an_unknown_class_changes_nothing():
    batch = labelled_batch()
    output = torch.randn(batch["label"].shape, generator=torch.Generator().manual_seed(0))
    moved = output.clone()
    moved[:, 0], moved[:, -1] = output[:, -1], output[:, 0]
    torch.testing.assert_close(supervised(batch, output), supervised(batch, moved))
    del batch["known"]
    assert abs(supervised(batch, output) - supervised(batch, moved)) > 1e-3


@pytest.mark.parametrize("method", ["mean_teacher", "cps", "dtc", "knowsam"])
def test_every_method_learns_the_same_where_all_classes_are_known(method):
    registry = import_bundle("semisam_plus", "methods.registry")
    found = []
    for known in (None, torch.ones(len(make_batch()["label"]), CLASSES, dtype=torch.bool), labelled_batch()["known"]):
        torch.manual_seed(0)
        batch = make_batch() if known is None else make_batch() | {"known": known}
        network = make_network(registry.body_channels(method, CLASSES))
        own = registry.build_objective(method, network, total_steps=10)
        torch.manual_seed(1)
        found.append(gradients(own, batch))
    assert found[0][0] == found[1][0] and found[0][0] != found[2][0]
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])
    assert all(grad.isfinite().all() for grad in found[2][1].values())


def test_labels_that_are_named_in_full_change_nothing(cohort, tmp_path):
    SEMISAM.run(["train.json"], tmp_path / "plain", cohort, **QUICK)
    content = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))
    values = [int(value) for value in content["labels"] if value != "0"]
    for case in content["training"] + content["test"]:
        case["known_labels"] = values
    (cohort / "dataset.json").write_text(json.dumps(content))
    SEMISAM.run(["train.json"], tmp_path / "named", cohort, **QUICK)
    assert_same_weights(tmp_path / "plain" / "ckpt" / "model.pt", tmp_path / "named" / "ckpt" / "model.pt")


def test_a_run_learns_from_halves_of_labels_on_both_levels_and_scores_what_masks_tell_about(cohort, tmp_path):
    strip(cohort, training_0=[1], training_1=[2], training_2=[2], test_0=[1])
    options = {"num_labeled": "null", "levels": 2, "fine_pixdim": "[1, 1, 1]", "fine_epochs": 1, "epochs": 2}
    _, said = SEMISAM.run(["train.json"], tmp_path, cohort, **options, plain_control="true")
    assert "plan: known_labels: 3 of 3 labels tell about some structures alone" in " ".join(said.split())
    names = {case["case"] for case in scores(tmp_path / "output" / "metrics.json")}
    rows = [(row["case"], row["label"]) for row in scores(tmp_path / "output" / "metrics.json")]
    first, second = sorted(names)
    assert [value for case, value in rows if case == first] == [1]
    assert [value for case, value in rows if case == second] == [1, 2, 3, 4, 5]
    assert all("plain dice" in row and "coarse dice" in row for row in scores(tmp_path / "output" / "metrics.json"))


def test_registration_wants_labels_that_tell_about_all(cohort, tmp_path):
    strip(cohort, training_0=[1], training_1=[1], training_2=[1])
    with pytest.raises(Exception) as error:
        SEMISAM.run(["train.json"], tmp_path, cohort, **QUICK, labels_from_registration="true")
    problems = import_bundle("semisam_plus", "common.errors").find_input_error(error.value).problems
    assert len(problems) == 2 and all("wanted all for labels_from_registration" in line for line in problems)
