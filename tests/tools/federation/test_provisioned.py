from __future__ import annotations

import json

import pytest

from common.errors import InputError
from tools.federation.provisioned import describe_rounds, left_out, read_kit


def test_the_admin_of_a_kit(tmp_path):
    (tmp_path / "startup").mkdir()
    with pytest.raises(InputError, match="wanted an admin's kit"):
        read_kit(tmp_path)
    (tmp_path / "startup" / "fed_admin.json").write_text(json.dumps({"admin": {"username": "admin@hospital.org"}}))
    assert read_kit(tmp_path) == read_kit(tmp_path / "startup") == (tmp_path, "admin@hospital.org")


def test_updates_that_were_left_out_are_found_in_the_servers_log(tmp_path):
    (tmp_path / "workspace").mkdir()
    line = "12:00 - SoundAverage - ERROR - left out: site south, round 2: it lacks body.weight\n"
    (tmp_path / "workspace" / "log.txt").write_text(f"12:00 fine\n{line}{line}")
    assert left_out(tmp_path) == ["left out: site south, round 2: it lacks body.weight"]


def test_each_round_says_who_took_part(tmp_path):
    sites = ["north", "south"]
    assert describe_rounds(tmp_path, sites) == []
    (tmp_path / "app_server").mkdir()
    (tmp_path / "app_server" / "rounds.json").write_text(json.dumps([sites, ["north"]]))
    assert describe_rounds(tmp_path, sites) == ["round 1: north, south", "round 2: north; without south"]
