from __future__ import annotations

from types import SimpleNamespace

import pytest

from common.costs.line import Clock, Line
from common.run import forecast
from common.run.forecast import UNMEASURED, Forecast, clock, seconds, size

LINES = [
    Line("load volumes", "cases", 4, 100, Clock(0.5, 0.4), Clock(52, 41), Clock(48, 38.4), 300, 150, 0),
    Line("registration of the scans on finer voxels", "cases", 3, 99, Clock(12, 11), Clock(1200, 1100)),
    Line("prior", "", 0, 0, Clock(0, 0), Clock(7, 7), Clock(0, 0), 400, 0, 0),
    Line("train", "steps", 6, 100000, Clock(0.25, 0.25), Clock(25010, 25000), Clock(25000, 24990), 700, 0, 4e6, 12345),
]
LINES[1].more, LINES[1].peak_mib, LINES[1].disk = Clock(1164, 1067), 500, 5e6


@pytest.fixture
def made(tmp_path, monkeypatch):
    def make(lines=LINES, memory=4.0, opened=("images of 100 training cases", "labels of " + "abcdefgh, " * 20)):
        monkeypatch.setattr(forecast, "memory_gib", lambda: memory)
        measured = SimpleNamespace(lines=lines, apart=Clock(2, 1), disk=9e6 + 1000, parameters=1234567, opened=opened)
        measured.peak_mib, measured.gpu_mib = 100.0, 0.0
        return Forecast(measured, Clock(100, 90), [tmp_path / "not" / "there"])

    return make


def test_all_is_what_was_spent_and_what_stages_cost_more(made):
    """100 s here, of which 2 were the dry run's own, and 48 + 1164 + 25000 s more."""
    found = made()
    assert found.total.wall == pytest.approx(98 + 48 + 1164 + 25000)
    within = 4 + 36 + 7 + 10
    assert found.between.wall == pytest.approx(98 - within)
    assert found.total.cpu == pytest.approx(89 + 38.4 + 1067 + 24990)


def test_memory_is_the_most_that_a_stage_wants_with_what_is_held_by_then(made):
    assert made().memory_mib == (850, "train")
    assert made([Line("any", peak_mib=50)]).memory_mib == (100, UNMEASURED)


def test_a_table_fits_into_80_columns(made):
    said = str(made())
    assert max(map(len, said.splitlines())) <= 80
    rows = {line[:24].strip(): line[24:].split() for line in said.splitlines()}
    assert rows["load volumes"] == ["100", "cases", "4", "0.50", "s", "0:00:02", "0:00:52", "0:00:41"]
    assert rows["train"] == ["100000", "steps", "6", "0.25", "s", "0:00:10", "6:56:50", "6:56:40"]
    assert rows["registration of the sca"][:4] == ["99", "cases", "3", "12"] and rows["prior"] == ["0:00:07"] * 3
    assert "time:       about 7:18:30 (h:mm:ss)" in said and "1,234,567 of what is deployed" in said
    assert "memory:     about 0.8 GiB (train); this machine has 4.0" in said and "12,345 learn in train" in said
    assert "disk:       about 9 MiB" in said and "warning" not in said and "this took 0:01:40" in said


def test_too_little_memory_or_disk_is_a_warning(made):
    assert "warning: that is more memory than there is" in str(made(memory=0.5))
    found = made(memory=None)
    found.disk = found.free + 1
    assert "warning: that is more than the room on the disk" in str(found) and "this machine has" not in str(found)


def test_what_is_said_of_files_takes_no_command(made):
    assert "\x1b" not in str(made(opened=["labels of \x1b[2Jcase"]))


def test_numbers_have_units():
    assert (clock(3661.4), clock(-1)) == ("1:01:01", "0:00:00") and (seconds(0.123), seconds(12.3)) == (
        "0.12 s",
        "12 s",
    )
    assert size(3 * 2**20) == "3 MiB" and size(1.5 * 2**30) == "1.5 GiB"
