"""How nnU-Net is called: in an environment and folders of its own, on one process; its programs are stand-ins."""

from __future__ import annotations

import json
import stat

import pytest

from benchmarks.nnunet.peer import NAME, TRAINER, NnUNet

SAYS = """#!/usr/bin/env python3
import json, os, sys
from pathlib import Path
work = Path(os.environ["nnUNet_results"]).parent
program = Path(sys.argv[0]).name
own = {name: value for name, value in os.environ.items() if name.startswith(("nnUNet", "CPU", "OMP"))}
(work / f"{program}.json").write_text(json.dumps({"words": sys.argv[1:], "environment": own}))
if "plan" in program:
    place = Path(os.environ["nnUNet_preprocessed"]) / "NAME"
    place.mkdir(parents=True)
    planned = {"2d": {}, "3d_lowres": {}, "3d_fullres": {}, "3d_cascade_fullres": {}}
    (place / "nnUNetPlans.json").write_text(json.dumps({"configurations": planned}))
if "train" in program:
    assert list(Path(os.environ["nnUNet_extTrainer"]).iterdir())[0].name == "trainer.py"
    place = work / "results" / "NAME" / f"TRAINER__nnUNetPlans__{sys.argv[2]}" / "fold_all"
    place.mkdir(parents=True)
    (place / "cpu_seconds.json").write_text('{"steps": 3}')
if "predict" in program:
    print("out of memory", file=sys.stderr)
    sys.exit(3)
"""


@pytest.fixture
def peer(tmp_path) -> NnUNet:
    programs = tmp_path / "environment" / "bin"
    programs.mkdir(parents=True)
    for name in ("plan_and_preprocess", "preprocess", "train", "predict"):
        path = programs / f"nnUNetv2_{name}"
        path.write_text(SAYS.replace("NAME", NAME).replace("TRAINER__", f"{TRAINER}__"))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return NnUNet(tmp_path / "environment", tmp_path / "work", threads=2)


def said(peer: NnUNet, program: str) -> dict:
    return json.loads((peer.work / f"{program}.json").read_text())


def test_configurations_in_3d_are_what_was_planned_without_the_cascade(peer):
    assert peer.plan() == ["3d_fullres", "3d_lowres"]
    environment = said(peer, "nnUNetv2_plan_and_preprocess")["environment"]
    assert environment["nnUNet_raw"] == str(peer.work / "raw") and environment["OMP_NUM_THREADS"] == "2"


def test_a_spacing_takes_the_place_of_the_planned_one(peer):
    peer.plan([2, 2.5, 3])
    words = said(peer, "nnUNetv2_plan_and_preprocess")["words"]
    assert words[words.index("-overwrite_target_spacing") + 1 :] == ["2", "2.5", "3"]


def test_training_gets_the_budget_all_cases_and_no_process_beside_it(peer):
    assert peer.train("3d_lowres", 60.5) == {"steps": 3}
    found = said(peer, "nnUNetv2_train")
    assert found["words"][:3] == ["501", "3d_lowres", "all"] and TRAINER in found["words"]
    assert float(found["environment"]["CPU_SECONDS"]) == 60.5
    assert found["environment"]["nnUNet_n_proc_DA"] == "0"


def test_a_program_that_fails_ends_with_what_it_said(peer):
    with pytest.raises(SystemExit, match=r"nnUNetv2_predict: status 3(.|\n)*out of memory"):
        peer.predict("3d_fullres")
    assert "--disable_tta" in said(peer, "nnUNetv2_predict")["words"]


def test_an_environment_without_nnunet_is_said(tmp_path):
    with pytest.raises(SystemExit, match="nnUNetv2_train"):
        NnUNet(tmp_path, tmp_path)
