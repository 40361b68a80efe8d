"""Detached signatures in minisign's format (Ed25519): who packed this zip? Made and checked without a network.

    python -m tools.signature KEYFILE      make a key pair: KEYFILE (secret, by password) and KEYFILE.pub

`minisign -G`, `minisign -Sm` and `minisign -Vm` do the same and understand the same files.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import IO, Any

from common.errors import InputError, plain_input_errors
from common.files.atomic_write import write_atomic
from common.launch.words import place

SUFFIX = ".minisig"
_MAX_BYTES = 1 << 16  # of a key or signature, which has a few lines


def signature_path(archive: Path) -> Path:
    """Return where the signature of a file stands: beside it, as minisign puts it."""
    return archive.with_name(archive.name + SUFFIX)


def read_secret_key(path: Path) -> Any:
    """Return a secret key of minisign, unlocked; a password is asked for, or read from standard input in a pipe.

    Raises:
        InputError: no key, or another password than its own.
    """
    minisign = _library()
    try:
        key = minisign.SecretKey.from_bytes(_read(path))
        if key.is_encrypted():
            key.decrypt(_password(f"password of {path.name}: "))
    except minisign.Error as error:
        raise InputError(f"{path}: {error}; wanted a secret key of minisign and its password") from error
    return key


def sign(archive: Path, key: Any) -> Path:
    """Write the signature of a file beside it and return its path; the same file and key give the same bytes."""
    with archive.open("rb") as file:
        made = key.sign(file, trusted_comment=f"file:{archive.name}\thashed")  # no time in it
    return write_atomic(signature_path(archive), bytes(made) + b"\n")


def verify(file: IO[bytes], archive: Path, public_key: Path) -> str:
    """Check the signature beside `archive` against the open file; return the comment that it vouches for.

    Raises:
        InputError: no key, no signature, or one that is not this key's of these bytes.
    """
    minisign = _library()
    try:
        key = minisign.PublicKey.from_bytes(_read(public_key))
    except minisign.Error as error:
        raise InputError(f"{public_key}: {error}; wanted a public key of minisign") from error
    path = signature_path(archive)
    try:
        signature = minisign.Signature.from_bytes(_read(path))
        file.seek(0)
        key.verify(file, signature)
    except minisign.Error as error:
        raise InputError(f"{path}: {error}; wanted the signature of {archive.name} by {public_key.name}") from error
    return signature.trusted_comment


def make_keys(path: Path, password: str) -> Path:
    """Write a new secret key to `path`, readable by its owner alone, and its public key beside it; return the latter.

    Raises:
        InputError: one of the files is there already, or can't be written.
    """
    minisign = _library()
    public = path.with_name(path.name + ".pub")
    there = [file for file in (path, public) if file.exists()]
    if there:
        raise InputError([f"{file}: already there; wanted a new file for a new key" for file in there])
    pair = minisign.KeyPair.generate()
    if password:
        pair.secret_key.encrypt(password)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror}); wanted a folder to write to") from error
    with os.fdopen(handle, "wb") as file:
        file.write(bytes(pair.secret_key) + b"\n")
    return write_atomic(public, bytes(pair.public_key) + b"\n")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); wanted a file of minisign") from error


def _password(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    return sys.stdin.readline().rstrip("\r\n")


def _library() -> Any:
    try:
        import minisign
    except ImportError as error:
        raise InputError("signatures need a package that isn't there; wanted: pip install py-minisign") from error
    return minisign


def main(arguments: list[str] | None = None) -> int:
    """Make a key pair; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.signature", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("key", type=place, metavar="KEYFILE", help="secret key to make; keep it out of any repository")
    given = parser.parse_args(arguments)
    password = _password("password of the new key (empty: none): ")
    if sys.stdin.isatty() and password != _password("again: "):
        raise InputError("the two passwords differ; nothing was written")
    print(f"{make_keys(given.key, password)}: public key, to be handed out; {given.key} stays with you")
    return 0


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
