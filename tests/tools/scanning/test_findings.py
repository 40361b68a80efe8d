from __future__ import annotations

import json

import pytest

from common.errors import InputError
from tools.scanning.findings import AllowList, Finding, read_allow_list


def test_a_finding_is_allowed_where_nothing_speaks_against_it():
    assert Finding("target", "here", "x").allowed and not Finding("target", "here", "x", "because").allowed


def test_targets_by_name_and_by_module():
    allow = AllowList(targets=("UNet", "torch.optim.*"))
    assert [allow.permits_target(name) for name in ("UNet", "torch.optim.SGD")] == [True, True]
    names = ("VNet", "torch.optim.lr_scheduler.StepLR", "torch.optim.sgd", "torch.optim", "torch.optim.sys.X", ".X")
    assert not any(allow.permits_target(name) for name in names)


def test_files_by_pattern():
    allow = AllowList(files=("configs/*.json", "LICENSE"))
    assert allow.permits_file("configs/a.json") and allow.permits_file("LICENSE")
    assert not any(
        allow.permits_file(path) for path in ("a/LICENSE", "LICENSE.py", "configs/a.JSON", "x/configs/a.json")
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"target": []}, "'target'"),
        ({"targets": "UNet"}, "targets"),
        ({"targets": [1]}, "targets"),
        ({"python": []}, "python"),
        ({"python": {"import": []}}, "python.import"),
        ([], "list"),
    ],
)
def test_a_mistyped_list_is_an_error(content, found, tmp_path):
    (tmp_path / "allow.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=found):
        read_allow_list(tmp_path / "allow.json")


def test_a_missing_or_broken_list_is_an_error(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    for name in ("broken.json", "nothing.json"):
        with pytest.raises(InputError, match="wanted an allow-list"):
            read_allow_list(tmp_path / name)


def test_nothing_is_allowed_by_an_empty_list(tmp_path):
    (tmp_path / "allow.json").write_text("{}")
    assert read_allow_list(tmp_path / "allow.json") == AllowList()
