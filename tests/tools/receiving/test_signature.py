from __future__ import annotations

import io

import pytest

from common.errors import InputError
from tools.signature import main, make_keys, read_secret_key, sign, verify

# the example of https://jedisct1.github.io/minisign: made by the C program, not by us
PUBLIC = b"untrusted comment: x\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n"
SIGNATURE = b"""untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
"""


@pytest.fixture
def zipped(tmp_path):
    path = tmp_path / "tiny_v0.1.0.zip"
    path.write_bytes(b"test")
    return path


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "key", make_keys(tmp_path / "key", "")


def test_a_signature_of_minisign_itself_is_understood(zipped, tmp_path):
    (tmp_path / "public").write_bytes(PUBLIC)
    (tmp_path / "tiny_v0.1.0.zip.minisig").write_bytes(SIGNATURE)
    assert verify(io.BytesIO(b"test"), zipped, tmp_path / "public") == "timestamp:1555779966\tfile:test"
    with pytest.raises(InputError, match="signature verification failed"):
        verify(io.BytesIO(b"Test"), zipped, tmp_path / "public")


def test_what_is_signed_is_verified_and_equal_on_two_builds(zipped, keys):
    secret, public = keys
    first = sign(zipped, read_secret_key(secret)).read_bytes()
    assert sign(zipped, read_secret_key(secret)).read_bytes() == first
    assert first.count(b"\n") == 4
    assert verify(io.BytesIO(b"test"), zipped, public) == "file:tiny_v0.1.0.zip\thashed"


def test_changed_bytes_comments_and_other_keys_are_refused(zipped, keys, tmp_path):
    secret, public = keys
    path = sign(zipped, read_secret_key(secret))
    made = path.read_bytes()
    with pytest.raises(InputError, match="signature verification failed"):
        verify(io.BytesIO(b"tesT"), zipped, public)
    path.write_bytes(made.replace(b"v0.1.0", b"v0.2.0"))
    with pytest.raises(InputError, match="signature verification failed"):
        verify(io.BytesIO(b"test"), zipped, public)
    path.write_bytes(made)
    with pytest.raises(InputError, match="incompatible key"):
        verify(io.BytesIO(b"test"), zipped, make_keys(tmp_path / "other", ""))
    path.write_bytes(made[:80])
    with pytest.raises(InputError, match="wanted the signature of tiny"):
        verify(io.BytesIO(b"test"), zipped, public)
    path.unlink()
    with pytest.raises(InputError, match=r"minisig: can't be read"):
        verify(io.BytesIO(b"test"), zipped, public)
    with pytest.raises(InputError, match="wanted a public key"):
        verify(io.BytesIO(b"test"), zipped, secret)


def test_a_password_is_wanted_and_never_overwritten(tmp_path, monkeypatch, capsys, zipped):
    monkeypatch.setattr("sys.stdin", io.StringIO("horse\n"))
    assert main([str(tmp_path / "k")]) == 0
    assert (tmp_path / "k").stat().st_mode & 0o077 == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("donkey\n"))
    with pytest.raises(InputError, match="wrong password"):
        read_secret_key(tmp_path / "k")
    monkeypatch.setattr("sys.stdin", io.StringIO("horse\n"))
    sign(zipped, read_secret_key(tmp_path / "k"))
    assert verify(io.BytesIO(b"test"), zipped, tmp_path / "k.pub")
    with pytest.raises(InputError, match="already there"):
        make_keys(tmp_path / "k", "")
    assert "horse" not in capsys.readouterr().out
