from __future__ import annotations

import pytest

from common.errors import InputError
from tools.supply.lock_file import Pin, canonical, lock_text, parse_lock, with_other_builds

A, B = "a" * 64, "b" * 64
TEXT = f"""# made by hand
Some_Thing==1.0+cpu ; python_full_version < '3.12' and sys_platform == 'win32' \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via other
other==2 --hash=sha256:{A}
"""
PINS = [
    Pin("some-thing", "1.0+cpu", "python_full_version < '3.12' and sys_platform == 'win32'", frozenset([A, B])),
    Pin("other", "2", "", frozenset([A])),
]


def test_what_is_read_is_what_is_written():
    assert parse_lock(TEXT, "x") == PINS
    written = lock_text(PINS, "two\nlines")
    assert written.startswith("# two\n# lines\nother==2 \\\n")
    assert sorted(parse_lock(written, "x"), key=str) == sorted(PINS, key=str)
    assert canonical("A_b.-c") == "a-b-c"


@pytest.mark.parametrize(
    "text",
    ["", "torch", f"torch>=1 --hash=sha256:{A}", "torch==1", "torch==1 --hash=sha256:12", f"x==1 --hash=md5:{A}",
     f"--index-url https://x\ntorch==1 --hash=sha256:{A}", f"torch @ file:///x --hash=sha256:{A}"],
)  # fmt: skip
def test_what_pins_nothing_is_refused(text):
    with pytest.raises(InputError, match=r"x: .*wanted"):
        parse_lock(text, "x")


def test_other_builds_are_kept_as_long_as_the_version_stays():
    now = [Pin("other", "2", "", frozenset([B])), Pin("some-thing", "3", "", frozenset([B]))]
    kept = with_other_builds(now, PINS)
    assert [pin.hashes for pin in kept] == [{A, B}, {B}]
