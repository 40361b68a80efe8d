from __future__ import annotations

from urllib.parse import quote

import numpy as np
import pytest
import torch

from tools.federation.client import (
    overrides,
    read_arguments,
    require_numbers,
    require_same_classes,
    require_same_network,
)
from tools.federation.recipe import encode

JOB = {
    "settings": {"epoch_length": 5, "num_labeled": 4},
    "grid": {"spatial_size": [8, 8, 8], "pixdim": [1.0, 2.0, 3.0]},
    "labels": {"0": "background", "1": "left kidney"},
    "rounds": 3,
    "local_epochs": 2,
}


def test_arguments_survive_spaces_and_quotes_as_nvflare_cuts_at_them(tmp_path):
    folder = tmp_path / "a folder"
    line = f"--job {encode(JOB)} --bundle {quote(str(folder))} --dataset_dir /d --settings {encode({'a': None})}"
    job, bundle, dataset_dir, settings = read_arguments(line.split())
    assert job == JOB and bundle == str(folder) and dataset_dir == "/d" and settings == {"a": None}


def test_a_provisioned_site_says_itself_where_its_bundle_and_data_are(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDERATED_BUNDLE", str(tmp_path))
    with pytest.raises(ValueError, match="FEDERATED_DATASET_DIR is not set"):
        read_arguments(["--job", encode(JOB)])
    monkeypatch.setenv("FEDERATED_DATASET_DIR", "/data")
    assert read_arguments(["--job", encode(JOB)])[1:] == (str(tmp_path), "/data", {})


def test_a_site_may_change_its_settings_but_not_what_must_be_equal():
    own = {"num_labeled": 0, "pixdim": [9, 9, 9], "resume": True, "train#total_epochs": 1}
    found = overrides(JOB, "/bundle", "/data", own)
    assert found["num_labeled"] == 0 and found["epoch_length"] == 5
    assert found["pixdim"] == [1.0, 2.0, 3.0] and found["train#total_epochs"] == 6 and found["resume"] is False
    assert found["bundle_root"] == "/bundle" and found["dataset_dir"] == "/data"


@pytest.mark.parametrize(
    "found", [{0: "background", 2: "left kidney"}, {0: "background", 1: "spleen"}, {0: "background"}]
)
def test_other_classes_end_in_one_line(found):
    require_same_classes("here", {0: "background", 1: "left kidney"}, JOB["labels"])
    with pytest.raises(ValueError, match=r"site here has the labels .* wanted those of the job, .* `known_labels`"):
        require_same_classes("here", found, JOB["labels"])


def test_weights_that_are_no_number_are_not_sent():
    sound = {"body.weight": np.ones((2, 3), np.float32), "step": torch.ones(1)}
    require_numbers("here", 3, sound)
    for wrong in (np.array([1, np.nan]), torch.tensor([float("inf")])):
        with pytest.raises(ValueError, match=r"site here has body.bias with values that are no number after round 3"):
            require_numbers("here", 3, {**sound, "body.bias": wrong})


def test_a_global_model_of_another_network_is_not_learnt_from():
    own = {"body.weight": torch.zeros(2, 3), "pixdim": torch.zeros(3)}
    require_same_network("here", own, {"body.weight": np.zeros((2, 3)), "pixdim": np.zeros(3)})
    with pytest.raises(ValueError, match=r"site here has body.weight of the shape \[2, 3\]; wanted \[4, 3\]"):
        require_same_network("here", own, {**own, "body.weight": np.zeros((4, 3))})
    with pytest.raises(ValueError, match=r"site here has pixdim of the shape \[3\]; wanted none"):
        require_same_network("here", own, {"body.weight": np.zeros((2, 3))})
