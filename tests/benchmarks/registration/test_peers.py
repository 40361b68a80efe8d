"""Registrations of others beside ours: what needs none of their packages; the peer's worker is a stand-in."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor

from benchmarks import registration_peers
from benchmarks.registration import peers, worker
from benchmarks.registration.pair import Pair
from benchmarks.registration.peers import PEERS, Environment
from common.atlas.atlas import Atlas
from common.errors import InputError
from common.registration.fields import total_ddf

COPIES = """
import json, shutil
for k in json.load(open("job.json"))["classes"]:
    shutil.copy(f"label_{k}.nii", f"warped_{k}.nii")
json.dump({"cpu_seconds": 2.5}, open("report.json", "w"))
"""


@pytest.fixture
def pair(phantom) -> Pair:
    label = F.one_hot(phantom["label"][:, 0], 3).permute(0, 4, 1, 2, 3).float()
    atlas = Atlas("atlas", phantom["image"], label, steps=2, coarse_steps=2)
    return Pair(atlas, {"case": "scan", "image": MetaTensor(phantom["image"][0].roll(2, dims=1))})


@pytest.fixture
def environment(tmp_path, monkeypatch) -> Environment:
    """An environment whose Python is ours, with a worker that copies the label."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(peers, "WORKER", tmp_path / "copies.py")
    peers.WORKER.write_text(COPIES)
    return Environment(tmp_path / "venv", tmp_path / "work")


def test_a_package_that_is_not_there_is_named_in_one_line(tmp_path):
    nothing = Environment(None, tmp_path)
    said = [nothing.missing(name) for name in PEERS]
    assert all(line.startswith(f"{name}: skipped; install ") for name, line in zip(PEERS, said, strict=True))
    assert "itk-elastix" in nothing.missing("elastix") and "antspyx" in nothing.missing("ANTs SyN")
    with pytest.raises(InputError, match="bin/python"):
        Environment(tmp_path, tmp_path).missing("Greedy")


def test_ours_moves_the_label_towards_the_scan(pair):
    target = pair.atlas.label[0].roll(2, dims=1)
    label, spent = pair.propagated()
    before, after = ((one[1:] - target[1:]).abs().sum() for one in (pair.atlas.label[0], label))
    assert label.shape == target.shape and after < before / 2
    assert spent > pair.affine[1] > 0


def test_a_label_goes_to_a_peer_and_back_with_its_cost(pair, environment):
    label, spent = environment.propagated("Greedy", pair, [2.0, 1.0, 1.5])
    assert torch.equal(label, pair.atlas.label[0]) and spent == 2.5
    _, spent = environment.propagated("Greedy from our affine", pair, [2.0, 1.0, 1.5])
    job = json.loads((environment.work / "pair" / "job.json").read_text())
    assert torch.allclose(torch.tensor(job["affine"]), pair.affine[0][0]) and spent == 2.5 + pair.affine[1]


def test_a_peer_that_fails_is_skipped_with_what_it_said_last(pair, environment):
    peers.WORKER.write_text("raise SystemExit('no overlap')")
    with pytest.raises(InputError, match="Greedy: skipped; status 1, no overlap"):
        environment.propagated("Greedy", pair, [1.0, 1.0, 1.0])


def test_our_affine_in_millimetres_maps_the_same_points():
    affine, spacing, size = torch.randn(1, 3, 4), np.array([2.0, 1.0, 1.5]), (4, 5, 6)
    linear, shift = worker.millimetres(affine[0].double().numpy(), spacing)
    voxel, centre = np.array([1.0, 3.0, 2.0]), (np.array(size) - 1) / 2
    moved = voxel + total_ddf(affine, None, size)[0, :, 1, 3, 2].numpy()
    assert np.allclose(linear @ ((voxel - centre) * spacing) + shift, (moved - centre) * spacing, atol=1e-4)


def test_table_compares_on_the_pairs_that_all_rows_have():
    def scores(cases: str, dice: float) -> list[dict]:
        return [{"case": case, "dice": dice, "hd95": 3.0, "cpu_seconds": 2.0} for case in cases]

    results = {
        "atlases": {
            "A": {"ours": scores("123", 0.8), "Greedy": scores("21", 0.7)},
            "B": {"ours": scores("1", 0.6), "Greedy": []},
        }
    }
    lines = registration_peers.table(results)
    assert lines[0] == "2 pairs" and len(lines) == 6
    assert "| ours | 0.800 | 0.800 |" in lines[4] and "-0.100, 0/2" in lines[5]
    assert registration_peers.table({"atlases": {}}) == ["0 pairs", ""]


def test_what_is_in_the_results_is_not_run_again_and_a_missing_package_is_said_once(
    pair, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(registration_peers, "native_scores", lambda *_: {"dice": 0.5, "hd95": 1.0, "assd": 1.0})
    benchmark = registration_peers.Benchmark.__new__(registration_peers.Benchmark)
    benchmark.arguments = Namespace(output=tmp_path / "results.json")
    benchmark.cohort = Namespace(grid=Namespace(label_values=(0, 1, 2), pixdim=(1, 1, 1)))
    benchmark.atlases, benchmark.skipped = [pair.atlas], set()
    benchmark.tests = [pair.item, {**pair.item, "case": "another"}]
    benchmark.environment = Environment(None, tmp_path)
    results = {"atlases": {"atlas": {"ours": [{"case": "scan", "dice": 0.9}]}}}
    benchmark.run(["our affine alone", "ours", "elastix"], results)
    written = json.loads((tmp_path / "results.json").read_text())["atlases"]["atlas"]
    assert [score["dice"] for score in written["ours"]] == [0.9, 0.5] and len(written["our affine alone"]) == 2
    assert written.get("elastix", []) == [] and capsys.readouterr().out.count("itk-elastix") == 1
