from __future__ import annotations

import pickle

import pytest
from torch.utils.data import DataLoader, Dataset

from common.errors import InputError, printable

FORGED = "liver\x1b[2K\rerror: all is well\nwarning: none\u202e\x9b1A\u2028\x00\udc80"


def test_printable_escapes_what_a_terminal_would_obey():
    shown = printable(FORGED)
    assert shown == ("liver\\x1b[2K\\rerror: all is well\\nwarning: none\\u202e\\x9b1A\\u2028\\x00\\udc80")
    assert shown.isprintable()
    assert printable("Prostata größer / 前列腺 'a' \\x") == "Prostata größer / 前列腺 'a' \\x"


def test_every_problem_is_one_printable_line():
    error = InputError([f"{FORGED}: bad", "b: worse"])
    assert error.problems == [f"{printable(FORGED)}: bad", "b: worse"]
    assert str(error).splitlines() == error.problems
    assert InputError("a\nb").problems == ["a\\nb"]


def test_lines_stay_apart_where_an_error_is_copied():
    error = InputError(["a", "b\n"])
    assert pickle.loads(pickle.dumps(error)).problems == error.problems == ["a", "b\\n"]


class _Bad(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise InputError(["a.nii: empty", "b\n.nii: empty"])


def test_lines_stay_what_they_are_where_a_loader_passes_them_on():
    with pytest.raises(InputError) as error:
        list(DataLoader(_Bad(), num_workers=1))
    assert error.value.problems == ["a.nii: empty", "b\\n.nii: empty"]
