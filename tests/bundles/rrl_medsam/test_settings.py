from __future__ import annotations

import sys

import pytest

from common.errors import find_input_error
from support.bundle.path import BUNDLES, import_bundle

PROGRAM = "/somewhere/site-packages/monai/bundle/__main__.py"


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--copies", "0.5"], []),
        (["--copies", "0.5", "--randomise", "0.8", "--restyle", "null"], []),
        (["--online_labels", "true"], []),
        (["--copies", "0.5", "--online_labels", "true"], ["wanted 0 with online_labels"]),
        (["--copies", "0.5", "--distillation_weight", "0.1"], ["wanted 0 with a distillation_weight above 0"]),
        (["--randomise", "2"], ["randomise"]),
        (["--restyle", "fourier"], ["restyle"]),
    ],
)
def test_copies_go_with_stored_labels_alone(monkeypatch, flags, wanted):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back
    config = str(BUNDLES / "rrl_medsam" / "configs" / "train.json")
    monkeypatch.setattr(sys, "argv", [PROGRAM, "run", "--config_file", config, *flags])
    found: list[str] = []
    try:
        import_bundle("rrl_medsam", "settings").check()
    except ValueError as error:  # an InputError of the bundle's own common
        found = find_input_error(error).problems
    assert len(found) == len(wanted) and all(text in line for text, line in zip(wanted, found, strict=True))
