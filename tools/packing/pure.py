"""The form for sites that admit no code in bundles: the scripts as a wheel, the bundle as JSON and weights alone."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files.atomic_write import replacing

from .archive import write_files

OWN = "scripts"  # what a bundle calls its package
PINNED = Path("docs", "requirements.txt")
WHEEL = "Wheel-Version: 1.0\nGenerator: tools.pack\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def package_of(bundle: str) -> str:
    """Return the name of the package that a wheel has a bundle's scripts as: many bundles can be installed together."""
    return f"{bundle.replace('-', '_')}_{OWN}"


def take_scripts_out(folder: Path, metadata: Mapping[str, Any], output: Path) -> Path:
    """Move the scripts of a package that is being made into a wheel, and let its configs name them there.

    metadata.json then requires the wheel's version, and docs/requirements.txt pins its sha256, for `pip install
    --require-hashes`. What the scripts themselves need is what the bundle needs: metadata.json says it.

    Args:
        folder: of the package, named as the bundle.
        metadata: of the bundle.
        output: folder for the wheel.

    Returns:
        the wheel.
    """
    package, version = package_of(folder.name), wheel_version(metadata["version"])
    wheel = output / f"{package}-{version}-py3-none-any.whl"
    with tempfile.TemporaryDirectory(prefix="wheel-") as scratch:
        root = Path(scratch)
        shutil.move(folder / OWN, root / package)
        about = root / f"{package}-{version}.dist-info"
        about.mkdir()
        summary = " ".join(str(metadata.get("task", folder.name)).split())
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nSummary: {summary}\nLicense: Apache-2.0\n"
            "Requires-Python: >=3.11\n", encoding="utf-8",
        )  # fmt: skip
        (about / "WHEEL").write_text(WHEEL, encoding="utf-8")
        shutil.copyfile(folder / "LICENSE", about / "LICENSE")
        (about / "RECORD").write_text(_record(root, f"{about.name}/RECORD"), encoding="utf-8", newline="")
        with replacing(wheel) as temporary:
            write_files(temporary, root)
    for config in sorted((folder / "configs").glob("*.json")):
        text = config.read_text(encoding="utf-8")
        config.write_text(re.sub(rf'("_target_":\s*")({OWN})\.', rf"\g<1>{package}.", text), encoding="utf-8")
    described = folder / "configs" / "metadata.json"
    content = json.loads(described.read_text(encoding="utf-8"))
    content["required_packages_version"] = {**content.get("required_packages_version", {}), package: version}
    described.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / PINNED).write_text(f"{package}=={version} --hash=sha256:{sha256_of(wheel)}\n", encoding="utf-8")
    return wheel


def wheel_version(version: str) -> str:
    """Return a bundle's version as a wheel's name can hold it: 0.1.0-rc.1 -> 0.1.0+rc.1."""
    number, _, rest = version.replace("-", "+", 1).partition("+")
    local = re.sub(r"[^A-Za-z0-9.]+", ".", rest).strip(".").lower()
    return f"{number}+{local}" if local else number


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record(root: Path, itself: str) -> str:
    """Return the table of a wheel's files (PEP 427): name, sha256, bytes."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest = base64.urlsafe_b64encode(bytes.fromhex(sha256_of(path))).rstrip(b"=").decode("ascii")
        rows.writerow([path.relative_to(root).as_posix(), f"sha256={digest}", path.stat().st_size])
    rows.writerow([itself, "", ""])
    return text.getvalue()
