from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from common.serving.prediction_log import PredictionLog, describe_volumes, label_volumes


def label_map(*values: int, saved_to: str | None = None) -> MetaTensor:
    label = torch.zeros(1, 10, 10, 10, dtype=torch.uint8)
    for position, value in enumerate(values):
        label[0, position] = value  # 100 voxels
    affine = torch.diag(torch.tensor([-1.0, 2.0, 5.0, 1.0]))  # 10 mm^3 a voxel, left-handed
    return MetaTensor(label, affine=affine, meta={"saved_to": saved_to} if saved_to else {})


def test_volumes_in_ml():
    assert describe_volumes(label_volumes(label_map(1, 4, 4))) == "label 1: 1.00 ml, label 4: 2.00 ml"
    assert describe_volumes(label_volumes(label_map())) == "no label found"
    assert describe_volumes(label_volumes(label_map(4)), [1, 4]) == "label 1: not found, label 4: 1.00 ml"


def test_one_line_for_each_written_file(capsys):
    label, uncertainty = label_map(2, saved_to="/out/a_seg.nii.gz"), label_map(saved_to="/out/a_u.nii.gz")
    files = {"pred": label, "uncertainty": uncertainty}
    engine = Engine(lambda engine, batch: [files])
    PredictionLog().attach(engine)
    engine.run([0])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1] == "/out/a_u.nii.gz"
    assert lines[0].startswith("/out/a_seg.nii.gz  label 2: 1.00 ml  ") and lines[0].endswith(" s")


def test_what_was_not_found_is_said_once_a_case_with_the_name_of_its_scan(capsys):
    empty, whole = label_map(4, saved_to="/out/a_seg.nii.gz"), label_map(1, 4, 6, saved_to="/out/b_seg.nii.gz")
    empty.meta["filename_or_obj"], whole.meta["filename_or_obj"] = "/in/a.nii.gz", "/in/b.nii.gz"
    engine = Engine(lambda engine, batch: [{"pred": batch}])
    PredictionLog(label_values=[0, 1, 4, 6]).attach(engine)
    engine.run([empty, whole])
    log, *warnings, other = capsys.readouterr().out.splitlines()
    assert "label 1: not found, label 4: 1.00 ml, label 6: not found" in log and "not found" not in other
    assert warnings == ["warning: /in/a.nii.gz: nothing was found of label 1, 6; see whether the scan shows it"]
