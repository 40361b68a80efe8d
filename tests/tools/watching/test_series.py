from __future__ import annotations

import hashlib

import pytest

from common.errors import InputError
from tools.watching.series import KEY, Part, Series, read_part


def test_a_key_is_a_hash_of_the_name_alone():
    key = Series("1.2.840.1", 3).key
    assert key == hashlib.sha256(b"1.2.840.1").hexdigest()[:16] == Series("1.2.840.1", 9, 4.0, 1).key
    assert KEY.fullmatch(key) and Series("Müller\udcff.nii", 1).key != Series("Müller.nii", 1).key


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_series_is_one_parts_and_the_parts_are_alike(count):
    keys = [Series(f"1.2.{n}", 1).key for n in range(700)]
    shares = [[key for key in keys if Part(number, count).holds(key)] for number in range(1, count + 1)]
    assert sorted(key for share in shares for key in share) == sorted(keys)
    assert min(map(len, shares)) > 0.7 * len(keys) / count


def test_a_part_is_named_or_torchruns():
    assert read_part(None) == Part(1, 1) == read_part(None, "0", "1")
    assert read_part("2/4") == Part(2, 4) == read_part(None, "1", "4") and str(Part(2, 4)) == "2/4"
    assert read_part("2/4", "0", "1") == Part(2, 4)  # torchrun of one process


@pytest.mark.parametrize("word", ["0/4", "5/4", "2", "2/0", "a/b", "-1/4", "1/4/5", ""])
def test_what_is_no_part(word):
    with pytest.raises(InputError, match="wanted I/N"):
        read_part(word)


def test_both_ways_at_once():
    with pytest.raises(InputError, match="one of both"):
        read_part("2/4", "0", "2")
