from __future__ import annotations

import pytest

from common.errors import InputError
from common.launch.words import names, number, optional, optional_number, path, per_axis, truth


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "Yes", "on", 1, True, " on "])
def test_words_for_true(word):
    assert truth("resume", word) is True


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "OFF", 0, False])
def test_words_for_false(word):
    assert truth("resume", word) is False


@pytest.mark.parametrize("word", ["maybe", "", "2", None, 0.5, "null"])
def test_what_is_neither_names_the_key_and_the_word(word):
    with pytest.raises(InputError) as caught:
        truth("resume", word)
    assert caught.value.problems == [f"resume is {word!r}; wanted true or false (also 1, yes, on; 0, no, off)"]


def test_words_for_nothing():
    assert [optional(word) for word in ("null", "None", "NULL", None)] == [None] * 4
    assert optional("nothing") == "nothing" and optional(0) == 0


def test_numbers():
    assert number("rate", "1e-3") == 0.001 and number("epochs", "30", whole=True) == 30
    assert isinstance(number("epochs", 30.0, whole=True), int)
    assert optional_number("rounds", "null", whole=True) is None and optional_number("rounds", "2", whole=True) == 2


@pytest.mark.parametrize(
    ("word", "options", "line"),
    [
        ("two", {}, "rounds is 'two'; wanted a number"),
        (2.5, {"whole": True}, "rounds is 2.5; wanted a whole number"),
        (0, {"whole": True, "least": 1}, "rounds is 0; wanted a whole number of 1 or more"),
        (True, {}, "rounds is True; wanted a number"),
        ("nan", {}, "rounds is 'nan'; wanted a number"),
        (None, {}, "rounds is None; wanted a number"),
    ],
)
def test_what_is_no_number_is_one_line(word, options, line):
    with pytest.raises(InputError) as caught:
        number("rounds", word, **options)
    assert caught.value.problems == [line]
    if word is not None:
        with pytest.raises(InputError) as caught:
            optional_number("rounds", word, **options)
        assert caught.value.problems == [f"{line}, or null"]


@pytest.mark.parametrize("word", ["64,48,32", "[64,48,32]", "[64, 48, 32]", "(64,48,32)", (64, 48, 32), [64, 48, 32]])
def test_lists(word):
    assert per_axis("spatial_size", word, whole=True) == [64, 48, 32]


def test_one_number_stands_for_all_axes_and_null_for_none():
    assert per_axis("pixdim", 2) == [2.0, 2.0, 2.0] and per_axis("pixdim", "1.5") == [1.5] * 3
    assert per_axis("pixdim", "null") is None


@pytest.mark.parametrize("word", ["64,48", "a,b,c", "64,48,0", "64,48,1.5", [], {"a": 1}, "64,48,32,16"])
def test_what_is_no_size_is_one_line(word):
    with pytest.raises(InputError) as caught:
        per_axis("spatial_size", word, whole=True)
    wanted = "wanted voxels above 0 for each axis, such as 64,48,32, or null"
    assert caught.value.problems == [f"spatial_size is {word!r}; {wanted}"]


def test_names_and_paths(monkeypatch):
    assert names("null") is None and names("a") == ["a"] and names("[a, b]") == names("a,b") == ["a", "b"]
    assert names(12) == ["12"] and names(["a", 7]) == ["a", "7"]
    monkeypatch.setenv("HOME", "/home/somebody")
    assert path("~/data") == "/home/somebody/data" and path("data/~x") == "data/~x"
