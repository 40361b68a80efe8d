"""What is bad is said in a line, and costs nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from support.bundle.problems import problems_of
from support.networks.bright_model import BUNDLE, CONFIG


def test_bad_files_cost_the_good_ones_nothing(run, scans, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a_good", "z_good"):
        (folder / f"{name}.nii.gz").write_bytes((scans / "RAS.nii.gz").read_bytes())
    (folder / "cut.nii.gz").write_bytes((scans / "RAS.nii.gz").read_bytes()[:500])
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4)), folder / "dark.nii.gz")
    (folder / "text.nrrd").write_text("no image")
    with pytest.raises(Exception) as error:  # at the end; MONAI wraps it
        run(folder)
    assert [Path(line.split(":")[0]).name for line in problems_of(error)] == ["cut.nii.gz", "dark.nii.gz", "text.nrrd"]
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("*.nii.gz")) == ["a_good", "z_good"]
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["left out", "left out", "not predicted"]
    for name in ("a_good", "dark", "z_good"):
        (folder / f"{name}.nii.gz").unlink()
    with pytest.raises(Exception) as error:
        run(folder, output_dir=str(tmp_path / "none"))
    assert len(problems_of(error)) == 2 and not list((tmp_path / "none").rglob("*.nii.gz"))


def test_a_scan_that_fails_on_its_way_costs_no_other(run, scans, tmp_path, monkeypatch, capsys):
    """No memory for the one, no room on the disk for another."""
    native = sys.modules["scripts.common.grid.native"].ToNativeGridd
    whole = native.__call__

    def fails(self, data):
        name = Path(data["image"].meta["filename_or_obj"]).name
        if name.startswith("LPS"):
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return whole(self, data)

    monkeypatch.setattr(native, "__call__", fails)
    (tmp_path / "out" / "PSR").mkdir(parents=True)
    (tmp_path / "out" / "PSR" / "PSR_seg.nii.gz").mkdir()  # where a file is to be written
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("LPS", "PSR", "RAS"):
        (folder / f"{name}.nii.gz").write_bytes((scans / f"{name}.nii.gz").read_bytes())
    with pytest.raises(Exception) as error:
        run(folder)
    first, second = problems_of(error)
    assert "LPS.nii.gz: not enough memory" in first and "PSR.nii.gz: its result can't be written" in second
    assert (tmp_path / "out" / "RAS" / "RAS_seg.nii.gz").is_file()
    printed = capsys.readouterr()
    assert printed.err.count("not predicted: ") == 2 and "Traceback" not in printed.out + printed.err


def test_no_model_or_another_model_is_said_plainly(run, scans, tmp_path):
    with pytest.raises(Exception) as error:
        run(scans / "RAS.nii.gz", ckpt_path=str(tmp_path / "model.pt"))
    assert len(problems_of(error)) == 1 and "model.pt: no such file; wanted a trained model" in problems_of(error)[0]
    with pytest.raises(Exception) as error:
        run(scans / "RAS.nii.gz", channels=[4, 4, 8, 16])
    assert any("wrong-shaped tensors" in line for line in problems_of(error))


def test_bad_input_ends_a_process_with_its_line_alone(clean_process, model, tmp_path):
    (tmp_path / "text.nrrd").write_text("no image")
    flags = [f"--bundle_root={BUNDLE}", f"--ckpt_path={model}", f"--dataset_dir={tmp_path}", "--output_dir=out"]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIG), *flags]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=600)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "text.nrrd: not a readable image" in errors[0]
