from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from common.serving.prediction_log import PredictionLog, describe_volumes


def label_map(*values: int, saved_to: str | None = None) -> MetaTensor:
    label = torch.zeros(1, 10, 10, 10, dtype=torch.uint8)
    for position, value in enumerate(values):
        label[0, position] = value  # 100 voxels
    affine = torch.diag(torch.tensor([-1.0, 2.0, 5.0, 1.0]))  # 10 mm^3 a voxel, left-handed
    return MetaTensor(label, affine=affine, meta={"saved_to": saved_to} if saved_to else {})


def test_volumes_in_ml():
    assert describe_volumes(label_map(1, 4, 4)) == "label 1: 1.00 ml, label 4: 2.00 ml"
    assert describe_volumes(label_map()) == "no label found"


def test_one_line_for_each_written_file(capsys):
    label, uncertainty = label_map(2, saved_to="/out/a_seg.nii.gz"), label_map(saved_to="/out/a_u.nii.gz")
    files = {"pred": label, "uncertainty": uncertainty}
    engine = Engine(lambda engine, batch: [files])
    PredictionLog().attach(engine)
    engine.run([0])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1] == "/out/a_u.nii.gz"
    assert lines[0].startswith("/out/a_seg.nii.gz  label 2: 1.00 ml  ") and lines[0].endswith(" s")
