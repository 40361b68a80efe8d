from __future__ import annotations

import collections
import os
import pickle

import numpy as np
import pytest

from tools.scanning.models.pickles import pickled_names


class Payload:
    def __reduce__(self):
        return os.system, ("echo x > ran",)


@pytest.mark.parametrize("protocol", range(6))
def test_names_are_found_in_every_protocol(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, problems = pickled_names(pickle.dumps([1, {"a": Payload()}, Payload()], protocol))
    assert names == [f"{os.name}.system"] and problems == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", range(6))
def test_agrees_with_what_pickle_looks_up(protocol):
    content = [
        collections.OrderedDict(a=np.arange(3)),
        {1, 2},
        frozenset([3]),
        b"x",
        bytearray(b"y"),
        1.5,
        1j,
        (None,) * 5,
    ]
    data = pickle.dumps([content, content, slice(1)], protocol)
    looked_up = []

    class Listening(pickle.Unpickler):
        def find_class(self, module, name):
            looked_up.append(f"{module}.{name}")
            return super().find_class(module, name)

    import io

    Listening(io.BytesIO(data)).load()
    names, problems = pickled_names(data)
    renamed = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # Python 2's names in old protocols
    ours = {".".join([renamed.get(n.rpartition(".")[0], n.rpartition(".")[0]), n.rpartition(".")[2]]) for n in names}
    assert ours == {
        ".".join([renamed.get(n.rpartition(".")[0], n.rpartition(".")[0]), n.rpartition(".")[2]]) for n in looked_up
    }
    assert problems == []


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def test_names_from_the_memo_are_found():
    data = b"\x80\x04" + short("os") + b"\x94" + short("system") + b"\x940" + b"0h\x00h\x01\x93."
    assert pickled_names(data) == (["os.system"], [])


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04" + short("os") + b"N\x93.",  # not a string
        b"\x80\x04" + short("o") + short("s") + b"\x86" + short("system") + b"\x93.",  # a tuple
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x04\x93.",
        b"cos\nsystem\n",  # no end: a reader would have called it before it sees that
        b"\x80\x040.",
        b"h\x05.",
        b"",
    ],
)
def test_what_can_not_be_told_is_a_problem(data):
    names, problems = pickled_names(data)
    assert problems or names == []
    assert problems or data == b"h\x05."  # a memo that isn't there: nothing is called


def test_a_call_before_the_break_is_listed():
    names, problems = pickled_names(b"cos\nsystem\n(S'x'\ntR\xff")
    assert names == ["os.system"] and problems
