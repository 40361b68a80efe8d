"""What a user types, of every bundle."""

from __future__ import annotations

import pytest

from support.bundle.run import ADA, RRL, SEMISAM, WEAK, BundleRun, command, errors_of, files_below


@pytest.mark.parametrize(
    ("bundle", "typed", "meant"),
    [
        (RRL, "epoch_lenght", "epoch_length"),
        (SEMISAM, "num_labelled", "num_labeled"),
        (ADA, "num_label_slice", "num_label_slices"),
        (WEAK, "subclases", "subclasses"),
    ],
)
def test_mistyped_key_is_one_clear_line(bundle: BundleRun, typed: str, meant: str, tmp_path):
    options = ["--bundle_root", str(bundle.folder), f"--{typed}", "3"]
    options += [f"--{name}_dir={tmp_path / name}" for name in ("output", "ckpt", "cache")]
    lines = errors_of(command([bundle.configs / "train.json"], *options, cwd=tmp_path))
    assert lines == [f"error: --{typed}: no such key in train.json; the closest is --{meant}"]
    assert not files_below(tmp_path)


@pytest.mark.parametrize("bundle", [RRL, SEMISAM, ADA, WEAK], ids=lambda bundle: bundle.name)
def test_settings_that_are_none_are_said_together_before_anything_is_read(bundle: BundleRun, tmp_path):
    """What would otherwise be said where it is used, some after hours; no data set is there, and none is missed."""
    words = {"epochs": "0", "spatial_size": "0,44,30", "device": "gpu", "epoch_length": "2.5", "seed": "-1"}
    words |= {"channels": "two", "train::trainer::max_epochs": "0", "output_dir": "3"}
    options = ["--bundle_root", str(bundle.folder), *(f"--{key}={word}" for key, word in words.items())]
    lines = errors_of(command([bundle.configs / "train.json"], *options, cwd=tmp_path))
    assert {line.split(" is ")[0].removeprefix("error: --").removeprefix("error: ") for line in lines} == set(words)
    assert "error: --epochs is 0; wanted a whole number from 1 to 1000000" in lines
    assert not files_below(tmp_path)
