"""Labels that tell about some structures alone (`known_labels`) in the SAM adapters."""

from __future__ import annotations

import json
import math

import pytest

from support.bundle.run import ADAPTERS, scores, subset_cohort
from support.data.stripped_masks import strip
from support.networks.tiny_sam import use_tiny_sam


@pytest.mark.parametrize("presets", [[], ["cpc_sam.json"]])
def test_a_run_learns_from_halves_of_labels_and_scores_what_masks_tell_about(
    presets, tiny_cohort, tmp_path, monkeypatch
):
    use_tiny_sam(monkeypatch, tmp_path / "weights", bundle=ADAPTERS.name)
    cohort = subset_cohort(tiny_cohort, tmp_path / "cohort", training=4, test=2)
    strip(cohort, training_0=[1], training_1=[1, 2], training_2=[2, 3], training_3=[1], test_1=[2])
    ADAPTERS.run(["train.json", *presets], tmp_path, cohort, num_labeled=3, epochs=1, plain_control=True)
    rows = scores(tmp_path / "output" / "metrics.json")
    partial = sorted({row["case"] for row in rows})[1]
    assert [row["label"] for row in rows if row["case"] == partial] == [2]
    assert all("plain dice" in row and "itself dice" in row for row in rows)
    losses = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))["results"]
    assert losses["labeled"] == 3 and not math.isnan(losses["dice"]["overall"]["method"])
