"""Evaluation of a data set whose test list holds images alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from common.errors import find_input_error
from support.bundle.run import ADA, RRL, SEMISAM, WEAK


@pytest.mark.slow
@pytest.mark.parametrize("bundle", [RRL, SEMISAM, ADA, WEAK], ids=lambda bundle: bundle.name)
def test_nothing_to_score_is_one_line_and_no_path_of_scores(bundle, tiny_cohort, tmp_path, capsys):
    folder = shutil.copytree(tiny_cohort, tmp_path / "data")
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    content |= {"test": [case["image"] for case in content["test"]], "validation": []}
    (folder / "dataset.json").write_text(json.dumps(content))
    grid = {"spatial_size": [32.0, 32, 32], "pixdim": [2.0, 2, 2], "label_values": [0.0, 1, 2, 3, 4, 5]}
    torch.save({name: torch.tensor(values) for name, values in grid.items()}, tmp_path / "model.pt")
    with pytest.raises(Exception) as caught:  # MONAI wraps it
        bundle.run(["train.json", "evaluate.json"], tmp_path, folder, ckpt_path=str(tmp_path / "model.pt"))
    assert find_input_error(caught.value).problems == [
        f"{folder}: nothing to score, of 2 test cases and 0 validation cases none has a label; wanted some in test or "
        'validation with {"image": ..., "label": ...}'
    ]
    assert "metrics.csv" not in capsys.readouterr().out
    assert not list(tmp_path.rglob("metrics.*"))
