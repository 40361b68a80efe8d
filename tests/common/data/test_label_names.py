from __future__ import annotations

import json

import pytest

from common.data.label_names import channel_names, compare_names, follow_model
from common.errors import InputError
from common.grid.grid import Grid
from support.bundle.packable import make_bundle


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


GRID = Grid((16, 16, 8), (1.0, 1.0, 2.0), (0, 3))
KIDNEY = {0: "background", 3: "kidney"}


def test_a_model_in_the_bundle_s_own_folder_is_described_by_itself(tmp_path):
    bundle = make_bundle(tmp_path, model=False)
    path = bundle / "configs" / "metadata.json"
    before = channel_names(path)
    said = follow_model(path, KIDNEY, GRID, bundle / "models" / "model.pt")
    assert said == f"configs/metadata.json names background, kidney now, where it had {', '.join(before)}"
    assert channel_names(path) == ["background", "kidney"]
    shape = json.loads(path.read_text())["network_data_format"]["inputs"]["image"]["spatial_shape"]
    assert shape == [16, 16, 8]
    written = path.stat().st_mtime_ns
    assert follow_model(path, KIDNEY, GRID, bundle / "models" / "model.pt") is None
    assert path.stat().st_mtime_ns == written


def test_a_model_elsewhere_leaves_the_description_alone_and_says_so(tmp_path):
    bundle = make_bundle(tmp_path, model=False)
    path = bundle / "configs" / "metadata.json"
    before = path.read_bytes()
    assert "python -m tools.describe_model" in follow_model(path, KIDNEY, GRID, tmp_path / "elsewhere" / "model.pt")
    assert path.read_bytes() == before


def test_a_description_that_can_not_be_written_does_not_end_a_run(tmp_path):
    bundle = make_bundle(tmp_path, model=False)
    path = bundle / "configs" / "metadata.json"
    path.write_text("{}")
    assert "can't be read" in follow_model(path, KIDNEY, GRID, bundle / "models" / "model.pt")
