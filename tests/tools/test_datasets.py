"""The command line of tools/datasets.py: light help, one line for what is wrong, nothing overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.datasets import main

ROOT = Path(__file__).parents[2]


def test_an_existing_dataset_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "dataset.json").write_text("{}")
    for name in ("hippocampus", "nnunet", "totalsegmentator", "to_nnunet"):
        assert main([name, str(tmp_path), str(tmp_path)]) == 1
        assert "dataset.json: already there; wanted a DIR without a dataset.json" in capsys.readouterr().err
    assert (tmp_path / "dataset.json").read_text() == "{}"


def test_help_is_light_and_a_bad_call_fails(tmp_path):
    code = "import runpy, sys\nsys.argv[1:] = ['--help']\n"
    code += "try: runpy.run_path('tools/datasets.py', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'monai', 'numpy', 'nibabel', 'SimpleITK'} & set(sys.modules)\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    assert done.returncode == 0 and "never overwritten" in done.stdout, done.stderr
    tool = str(ROOT / "tools/datasets.py")
    done = subprocess.run(
        [sys.executable, tool, "la", "nowhere", "t"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1 and done.stderr == "error: nowhere: no such folder; wanted the unpacked data set\n"
