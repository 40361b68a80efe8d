"""What metadata.json calls classes, and names that a stranger's dataset.json gives to labels, cases and files."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from common.data.label_names import channel_names, compare_names, follow_model
from common.errors import InputError, printable
from common.grid.grid import Grid
from common.report.page import Report
from common.scoring.table import MetricsTable
from support.bundle.packable import make_bundle
from support.data.written_datalist import LABELS, problems_of

FORGED = ["liver\x1b[2K\rerror: none", "liver\nwarning: none", "liver\u202egnp.", "liver\x9b1A", "[/]liver[bold]"]


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


@pytest.mark.parametrize("name", FORGED)
def test_problems_of_a_datalist_are_printable_lines(tmp_path, name):
    cases = [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"}, {name: 1}, name]
    problems = problems_of(tmp_path, {"labels": {"0": "background", name: name}, "training": cases, name: 1})
    problems += problems_of(tmp_path, {"labels": LABELS, "training": cases, "test": [f"../{name}"]})
    assert len(problems) > 3 and all(line.isprintable() for line in problems)
    assert any(printable(name).split("/")[-1] in line for line in problems)


@pytest.mark.parametrize("name", FORGED)
def test_tables_and_pages_show_names_as_text(tmp_path, name):
    table = MetricsTable({1: name})
    table.add(name, {1: {"dice": 0.5, "hd95": 1.0, "assd": 1.0}})
    table.skip(name)
    written = io.StringIO()
    table.print(Console(file=written, width=200))
    lines = written.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(printable(name) in line for line in lines) == 2
    page = Report(name, tmp_path)
    page.add_table(name, table.rows)
    page.add_text([name])
    text = page.write().read_text(encoding="utf-8")
    assert not set(text) & set("\x1b\r\x9b\u202e") and "liver" in text
