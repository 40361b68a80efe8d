"""Install what this folder holds, without a network: python3 install.py DIR

Written by tools.wheelhouse of the repository of label-efficient MONAI bundles. Every file is compared with SHA256SUMS
first. DIR, which must not be there yet, gets an environment (venv), the foundation weights (weights) and the bundles
(bundles), and nothing else of the machine is changed. Needs nothing but the Python that the wheels were made for.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

STICK = Path(__file__).resolve().parent
SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.minisig"


def differences(folder):
    """Return a line for each file that differs from SHA256SUMS, is missing, or isn't named in it."""
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    wanted = {name: sum256 for sum256, name in (line.split("  ", 1) for line in lines)}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    found = {name for name in found - {SUMS, SIGNATURE} if "__pycache__" not in name}
    problems = [f"{name!r}: not in {SUMS}" for name in sorted(found - wanted.keys())]
    problems += [f"{name!r}: missing" for name in sorted(wanted.keys() - found)]
    for name in sorted(found & wanted.keys()):
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted[name]:
                problems.append(f"{name!r}: another sha256 than in {SUMS}")
    return problems


def run(*command):
    """Run a command that neither pip's settings of this machine nor its Python paths lead elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run([str(word) for word in command], cwd=STICK, env={**kept, "PIP_CONFIG_FILE": os.devnull,
                          "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    if done.returncode:
        sys.exit(f"error: {' '.join(str(word) for word in command[:4])} ...: failed, see above")


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    target = Path(sys.argv[1]).absolute()
    made_for = json.loads((STICK / "made_for.json").read_text(encoding="utf-8"))
    here = "{}.{}".format(*sys.version_info)
    if here != made_for["python"]:
        sys.exit(f"error: Python {here} found; wanted {made_for['python']}, which the wheels were made for")
    if os.path.lexists(target):
        sys.exit(f"error: {target}: already there; wanted a new folder")
    problems = differences(STICK)
    if problems:
        sys.exit("\n".join(f"error: {line}" for line in problems))
    print(f"all files as in {SUMS}")
    target.mkdir(parents=True)
    venv.create(target / "venv", with_pip=True)
    python = target / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--find-links",
        STICK / "wheels", "--require-hashes", "--requirement", STICK / "requirements.lock")  # fmt: skip
    print(f"{target / 'venv'}: {len(list((STICK / 'wheels').glob('*.whl')))} packages")
    shutil.copytree(STICK / "weights", target / "weights")
    (target / "bundles").mkdir()
    for bundle in sorted((STICK / "bundles").glob("*.zip")):
        run(python, "-m", "tools.unpack", bundle, target / "bundles")
    print(f"Foundation weights, for training: SAM_WEIGHTS_DIR={target / 'weights'}")
    print(f"Segment: {python} -m monai.bundle run --config_file {target}/bundles/NAME/configs/inference.json "
          f"--bundle_root {target}/bundles/NAME --dataset_dir SCANS --output_dir RESULTS")  # fmt: skip


if __name__ == "__main__":
    main()
