from __future__ import annotations

import math

import pytest
import torch

from common.launch import kinds
from common.launch.kinds import Kind, choice, listed, names, number, whole


def refuses(kind: Kind, word: object) -> bool:
    try:
        kind.read(word)
    except (ValueError, TypeError):
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "wanted"),
    [
        (whole(1, 9), [1, 9], [0, 10, 2.0, "2", True, None, []], "a whole number from 1 to 9"),
        (whole(), [1, 1_000_000], [0, 1_000_001], "a whole number from 1 to 1000000"),
        (number(), [0, -2.5], [math.nan, math.inf, "1", False], "a number"),
        (number(0, 1), [0, 1, 0.5], [-0.1, 1.1], "a number from 0 to 1"),
        (number(least=0), [0, 1e9], [-1], "a number of 0 or more"),
        (number(above=0, most=1), [1, 0.1], [0, 1.5], "a number above 0 and up to 1"),
        (number(least=0, below=1), [0, 0.9], [1], "a number of 0 or more and below 1"),
        (choice("a", "b"), ["a", "b"], ["c", "", None, 1, ["a"]], "one of a, b"),
        (choice("auto") | whole(1, 9), ["auto", 3], ["other", 0], "auto, or a whole number from 1 to 9"),
        (listed(whole(1, 9), "counts", 1, 2), [[1], (1, 9)], [[], [1, 2, 3], [0], "1,2", 1], "counts"),
        (names("a", "b"), ["a", "a,b", ["b", "a"]], ["c", "a,c", "", [], 1, {}], "one or more of a, b"),
    ],
)
def test_kinds_take_what_they_say(kind, right, wrong, wanted):
    assert kind.wanted == wanted
    assert not [word for word in right if refuses(kind, word)]
    assert not [word for word in wrong if not refuses(kind, word)]


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (kinds.NULL, [None, "null", "None"], ["", 0, "nothing"]),
        (kinds.TRUTH, [True, "yes", 0], ["maybe", 2, None, []]),
        (kinds.SEED, [0, 2**32 - 1], [-1, 2**32, 0.5]),
        (kinds.PERCENTILES, [[1, 99], (0, 99.5)], [[99, 1], [1, 1], [1], [0, 101], "1,99", 5]),
        (kinds.VOXELS, ["64,48,32", [8, 8, 8], 32], [0, "a", [1, 2], 2.5, 1e9, None]),
        (kinds.MM, [2, "2,2,3.5"], [0, -1, "x", 1e9]),
        (kinds.NORM, ["instance", "batch", ["group", {"num_groups": 4}]], ["group", "two", "", 1, None, [1], True]),
        (kinds.ID, ["a", 12], [True, None, "", 2.5, {}]),
        (kinds.IDS, ["a", "a,b", [1, "b"], 7], [True, [], {}, [None], ""]),
        (kinds.CHANNELS, [[4, 8], (16, 32, 64)], [[4], [], [4, 0], 16, "4,8", [4, 10**9]]),
    ],
)
def test_kinds_that_bundles_share(kind, right, wrong):
    assert not [word for word in right if refuses(kind, word)]
    assert not [word for word in wrong if not refuses(kind, word)]


def test_what_is_read_is_what_the_word_stands_for():
    assert (kinds.NULL | whole()).read("null") is None
    assert kinds.VOXELS.read("64,48,32") == [64, 48, 32] and kinds.TRUTH.read("on") is True
    assert names("a", "b").read("a,b") == ["a", "b"]


def test_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "there.txt"
    file.write_text("")
    new = tmp_path / "new" / "folder"
    for kind in (kinds.FOLDER, kinds.FILE, kinds.EXISTING):
        assert all(refuses(kind, word) for word in (3, "", " ", None, [], True, str(file / "below")))
    assert kinds.FOLDER.read(str(new)) == str(new) and kinds.FILE.read("~/new/model.pt") and not new.exists()
    assert refuses(kinds.FOLDER, str(file)) and kinds.FILE.read(str(file)) and kinds.EXISTING.read("~/there.txt")
    assert refuses(kinds.FILE, str(tmp_path)) and refuses(kinds.EXISTING, str(new))
    assert refuses(kinds.FOLDER, "/proc/no/such") and refuses(kinds.FILE, "/proc/no/such")


@pytest.mark.parametrize("word", ["gpu", "cuda:99", "", 2.5, True, None, [], "meta", "cuda:-1", -1])
def test_no_device_of_this_machine(word):
    assert refuses(kinds.DEVICE, word)


def test_devices_of_this_machine(monkeypatch):
    assert kinds.DEVICE.read("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert kinds.DEVICE.read("cuda") == torch.device("cuda") and kinds.DEVICE.read("cuda:1").index == 1
    assert refuses(kinds.DEVICE, "cuda:2") and refuses(kinds.DEVICE, "xpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert refuses(kinds.DEVICE, "cuda")
