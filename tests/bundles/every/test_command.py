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
