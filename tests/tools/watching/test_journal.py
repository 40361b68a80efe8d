from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from tools.watching.journal import Journal, only_journal

ROOT = Path(__file__).resolve().parents[3]


def test_a_line_has_its_time_and_no_command_to_a_terminal():
    stream = io.StringIO()
    Journal(stream, "2/4").note("abc \x1b[31m\nforged")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 2/4 abc \\x1b\[31m\\nforged\n", stream.getvalue())


def test_a_stream_that_nobody_reads_ends_nothing():
    stream = io.StringIO()
    stream.close()
    Journal(stream).note("nobody hears it")


def test_nothing_else_is_printed_and_all_is_as_before(capfd):
    before = sys.stdout, sys.stderr
    with only_journal() as journal:
        print("Mueller")
        print("Mueller", file=sys.stderr)
        os.write(1, b"Mueller\n")
        os.write(2, b"Mueller\n")
        journal.note("one line")
    assert (sys.stdout, sys.stderr) == before
    os.write(2, b"afterwards\n")
    said = capfd.readouterr()
    assert "one line" in said.out and "Mueller" not in said.out + said.err and said.err == "afterwards\n"


def test_of_a_process_of_its_own():
    code = "import os, sys; from tools.watching.journal import only_journal\n"
    code += "with only_journal('1/2') as journal: os.system('echo Mueller; echo Mueller >&2'); journal.note('line')\n"
    code += "print('afterwards')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\S+Z 1/2 line\nafterwards\n", done.stdout) and done.stderr == ""
