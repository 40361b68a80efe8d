from __future__ import annotations

import json

import pytest

from common.data.label_names import channel_names, compare_names
from common.errors import InputError


def metadata(folder, channels):
    content = {"network_data_format": {"outputs": {"pred": {"channel_def": channels}}}}
    (folder / "metadata.json").write_text(json.dumps(content))
    return folder / "metadata.json"


def test_names_come_in_the_order_of_the_channels(tmp_path):
    found = channel_names(
        metadata(tmp_path, {"1": "liver", "0": "background", "10": "spleen"} | {str(n): str(n) for n in range(2, 10)})
    )
    assert found == ["background", "liver", *map(str, range(2, 10)), "spleen"]


@pytest.mark.parametrize("channels", [{}, {"0": "background"}, {"1": "liver", "2": "spleen"}, {"a": "b"}])
def test_metadata_must_name_the_channels(tmp_path, channels):
    with pytest.raises(InputError, match="wanted network_data_format"):
        channel_names(metadata(tmp_path, channels))


def test_other_names_are_told_and_the_same_are_not(tmp_path):
    path = metadata(tmp_path, {"0": "background", "1": "Liver"})
    assert compare_names(path, {0: "background", 7: "liver"}) is None
    assert "labels are background, kidney, " in compare_names(path, {0: "background", 1: "kidney"})
    assert "names background, Liver: clients" in compare_names(path, {0: "background", 1: "liver", 2: "kidney"})
    assert "can't be read" in compare_names(tmp_path / "none.json", {0: "background", 1: "liver"})
