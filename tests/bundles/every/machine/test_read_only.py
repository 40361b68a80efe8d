"""A bundle that lies where nobody may write, and a disk without room."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from support.bundle.network import first_network
from support.bundle.run import RRL, SEMISAM, files_below, subset_cohort
from support.process.permissions import obey_permissions, read_only

OUTPUTS = ("output", "ckpt", "cache")


def errors_and_status(
    bundle: Path, name: str, *flags: str, before: Callable[[], None] = obey_permissions
) -> tuple[list[str], int]:
    """Run a config from the folder around the bundle; return its lines on stderr, without MONAI's own, and status."""
    command = [sys.executable, "-B", "-m", "monai.bundle", "run", "--config_file", str(bundle / "configs" / name)]
    done = subprocess.run(
        [*command, f"--bundle_root={bundle}", *flags],
        cwd=bundle.parent,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=before,
    )
    lines = done.stderr.splitlines()
    return [line for line in lines if not line.startswith(("parsing config_file", "monai."))], done.returncode


@pytest.fixture
def locked(tmp_path) -> Iterator[Path]:
    """SemiSAM+ in a folder that can't be written."""
    bundle = SEMISAM.copy(tmp_path / "semisam_plus")
    with read_only(bundle):
        yield bundle


def elsewhere(folder: Path) -> list[str]:
    return [f"--{name}_dir={folder / name}" for name in OUTPUTS]


def test_each_folder_that_is_not_writable_is_a_line_and_nothing_is_begun(locked, tmp_path):
    before = files_below(tmp_path)
    lines, status = errors_and_status(locked, "train.json", *SEMISAM.flags())
    wanted = "can't be written (Permission denied); wanted a folder that can be"
    assert lines == [f"error: {locked / name}: {wanted}" for name in ("eval", "models", "cache")]
    assert status == 1 and files_below(tmp_path) == before


def test_the_sample_cohort_is_not_made_in_it(locked, tmp_path):
    lines, status = errors_and_status(locked, "train.json", *SEMISAM.flags(), *elsewhere(tmp_path))
    denied = "can't be written (Permission denied); wanted another dataset_dir"
    assert lines == [f"error: {locked / 'data' / 'sample'}: {denied}"] and status == 1


@pytest.mark.slow
def test_it_trains_and_predicts_with_results_elsewhere(locked, tiny_cohort, tmp_path):
    data, before = subset_cohort(tiny_cohort, tmp_path / "data", training=3, test=1), files_below(locked)
    flags = SEMISAM.flags(dataset_dir=data)
    assert errors_and_status(locked, "train.json", *flags, *elsewhere(tmp_path)) == ([], 0)
    flags = ["--channels=[4,8]", "--strides=[2]", "--device=cpu", f"--dataset_dir={data / 'imagesTs'}"]
    flags += [f"--ckpt_path={tmp_path / 'ckpt' / 'model.pt'}", f"--output_dir={tmp_path / 'predictions'}"]
    assert errors_and_status(locked, "inference.json", *flags) == ([], 0)
    assert len(list((tmp_path / "predictions").glob("*/*_seg.nii.gz"))) == 1
    assert files_below(locked) == before


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # told as a full disk is


def test_a_prediction_for_which_there_is_no_room_is_a_line_and_leaves_nothing(tiny_cohort, tmp_path):
    network = first_network(RRL.folder, channels=RRL.tiny["channels"])
    torch.save(network.state_dict(), tmp_path / "model.pt")
    data = subset_cohort(tiny_cohort, tmp_path / "data", test=1)
    (scan,) = (data / "imagesTs").iterdir()
    flags = ["--channels=[4,8,8,8]", "--device=cpu", f"--dataset_dir={scan}", f"--output_dir={tmp_path / 'out'}"]
    flags.append(f"--ckpt_path={tmp_path / 'model.pt'}")
    lines, status = errors_and_status(RRL.folder, "inference.json", *flags, before=small_files)
    assert status == 1 and [line.partition(": ")[0] for line in lines] == ["not predicted", "error"]
    assert all(f"{scan}: its result can't be written" in line and "File too large" in line for line in lines)
    assert not files_below(tmp_path / "out")
