"""Is a training that is killed again and again, and resumed, the same to the last bit as one that nobody disturbed?

    python -m common.sam.weights mobile_sam
    python -m benchmarks.kills --bundle rrl_medsam --kills 20 --work WORK [--output results.json]

Trains the bundle with tiny settings on a small generated cohort, once in a piece. Then again, by the same command,
which is killed outright (SIGKILL) at a random moment after it has begun, and resumed (`--resume true`), until it has
been killed often enough; where it is done before, another training is begun. Every model.pt is compared with the first.

A moment is drawn evenly from a stretch that is twice the undisturbed time by the number of kills; it grows while kills
come too soon for anything to be kept. Ends with status 1 where anything differs, is refused or is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from common.data.sample import make_sample_cohort
from common.files.atomic_write import write_atomic
from common.files.folder_lock import FILE as LOCK
from common.files.temporary import PREFIX
from common.launch.words import place

ROOT = Path(__file__).resolve().parents[1]
SHARED: dict[str, Any] = {"save_every": 1, "device": "cpu", "max_voxels": 8192, "epochs": 8, "epoch_length": 4}
TINY: dict[str, dict[str, Any]] = {
    "rrl_medsam": {
        "sam_image_size": 64, "sam_slices": 4, "distill_epochs": 3, "register_epochs": 3, "instance_steps": 4,
        "coarse_steps": 4, "rounds": 2, "bridges": 1, "bridge_steps": 4, "channels": "[4,8,8,8]", "dropout": 0.1,
        "ema_every": 2,
    },
    "semisam_plus": {
        "generalist_image_size": 64, "generalist_from": 2, "answer_every": 2, "num_labeled": 2, "min_agreement": 0.0,
        "min_gain": -1, "channels": "[4,8]", "strides": "[2]", "epochs": 16, "learning_rate": 0.01, "trial_cases": 1,
    },
    "ada_sam": {
        "sam_image_size": 64, "num_label_slices": 3, "views": 1, "hidden": 8, "classify_epochs": 3,
        "classify_length": 4, "classify_others": 4, "adapt_epochs": 4, "adapt_length": 2, "unet_epochs": 4,
        "unet_length": 2, "unet_batch": 2, "labeled_batch": 2, "unlabeled_batch": 2, "channels": "[4,8]",
        "strides": "[2]",
    },
    "weakmedsam": {
        "backbone_image_size": 64, "prior": "cam", "subclasses": 2, "hidden": 8, "classify_epochs": 3, "rounds": 2,
        "appearance_epochs": 2, "channels": "[4,8]", "strides": "[2]",
    },
    "sam_adapters": {
        "sam_image_size": 64, "num_labeled": 2, "views": 1, "adapt_epochs": 4, "adapt_length": 4, "adapt_batch": 2,
        "labeled_batch": 1, "channels": "[4,8]", "strides": "[2]",
    },
}  # fmt: skip
WAIT = 0.02  # seconds between two looks
LIMIT = 900.0  # seconds that one process may take


def start(bundle: str, data: Path, folder: Path, resume: bool) -> subprocess.Popen:
    """Start the command of a training into `folder`; what it says goes to log.txt there."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**SHARED, **TINY[bundle], "dataset_dir": data, **({"resume": "true"} if resume else {})}
    settings |= {"output_dir": folder / "eval", "ckpt_dir": folder / "models", "cache_dir": folder / "cache"}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", f"bundles/{bundle}/configs/train.json"]
    command += [f"--{name}={value}" for name, value in settings.items()]
    with open(folder / "log.txt", "ab") as log:
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **threads}, stdout=log, stderr=log)


def begun(process: subprocess.Popen, folder: Path) -> bool:
    """Wait until a process has taken the folders; False where it ended before."""
    limit = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < limit:
        try:
            # read by another process than the one that holds it, which does the lock no harm
            if json.loads((folder / "cache" / LOCK).read_text(encoding="utf-8"))["pid"] == process.pid:
                return True
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(WAIT)
    return False


def ended(process: subprocess.Popen, folder: Path) -> None:
    """Wait until a process has done its work; end with what it said where it failed."""
    if process.wait(timeout=LIMIT):
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        raise SystemExit(f"{folder}: status {process.returncode}\n" + "\n".join(lines[-20:]))


def kept(folder: Path) -> dict[str, float]:
    """Return what a later process can go on with: file -> when it was last written, cases and temporary files apart."""
    paths = [
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((PREFIX, "log", "events"))
    ]
    found = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".safetensors", ".pt", ".gz", ".json", ".html") or path.name.endswith(".previous"):
            found[name] = path.stat().st_mtime
    return found


def whereabouts(folder: Path) -> str:
    """Return where a training was: what run.json says of its stages, and the file that was written last."""
    files = {name: at for name, at in kept(folder).items() if not name.startswith("eval/")}
    last = max(files, key=files.__getitem__, default="")
    try:
        stages = list(json.loads((folder / "eval" / "run.json").read_text(encoding="utf-8"))["stages"])
    except (OSError, ValueError, KeyError):
        stages = []
    if last.endswith(".safetensors") and last.startswith("cache/"):
        last = str(Path(last).parent)  # of a case
    return f"{stages[-1] if stages else 'start'}; last written: {last or 'nothing'}"


def train_killed(bundle: str, data: Path, folder: Path, stretch: float, kills: int, draw: random.Random) -> list[str]:
    """Kill a training up to `kills` times and let it end; return where it was each time."""
    places: list[str] = []
    reach = stretch
    while len(places) < kills:
        before = kept(folder)
        process = start(bundle, data, folder, resume=bool(places))
        if begun(process, folder):
            try:
                process.wait(timeout=draw.uniform(0, reach))
            except subprocess.TimeoutExpired:
                process.kill()
        if process.wait() != -9:
            ended(process, folder)
            return places
        places.append(whereabouts(folder))
        after = kept(folder)
        reach = (
            stretch if any(before.get(name) != at for name, at in after.items() if "eval" not in name) else 1.5 * reach
        )
        print(f"{bundle}: killed {len(places)}: {places[-1]}", flush=True)
    ended(start(bundle, data, folder, resume=True), folder)
    return places


def compare(whole: Path, folder: Path) -> list[str]:
    """Return what is wrong with a training that was killed."""
    found, wanted = (torch.load(path / "models" / "model.pt", weights_only=True) for path in (folder, whole))
    wrong = sorted(
        name
        for name in wanted.keys() | found.keys()
        if name not in found or name not in wanted or not torch.equal(found[name], wanted[name])
    )
    problems = [f"{folder}: {len(wrong)} tensors of model.pt differ, such as {wrong[0]}"] if wrong else []
    left = [path for path in folder.rglob("*") if path.name.startswith(PREFIX) or path.name == LOCK]
    return problems + [f"{path}: left behind" for path in left]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", choices=TINY, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--work", type=place, required=True, help="folder of the trainings; a new one")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=place, help="JSON of what was found")
    options = parser.parse_args()
    work, draw = options.work.absolute(), random.Random(options.seed)
    counts = {"num_training": 5, "num_validation": 1, "num_test": 1}
    data = make_sample_cohort(work / "cohort", spatial_size=(32, 28, 24), **counts)
    whole = work / options.bundle / "whole"
    process = start(options.bundle, data, whole, resume=False)
    if not begun(process, whole):
        ended(process, whole)
    since = time.monotonic()
    ended(process, whole)
    seconds = time.monotonic() - since
    print(f"{options.bundle}: {seconds:.1f} s in a piece", flush=True)
    trainings: list[list[str]] = []
    problems: list[str] = []
    while sum(map(len, trainings)) < options.kills:
        folder = work / options.bundle / f"killed_{len(trainings) + 1}"
        left = options.kills - sum(map(len, trainings))
        trainings.append(train_killed(options.bundle, data, folder, 2 * seconds / options.kills, left, draw))
        problems += compare(whole, folder)
    table = Table(title=f"{options.bundle}: {sum(map(len, trainings))} kills of {len(trainings)} trainings")
    table.add_column("killed")
    table.add_column("times", justify="right")
    for name, times in Counter(name for places in trainings for name in places).items():
        table.add_row(name, str(times))
    Console().print(table)
    if options.output is not None:
        found = {"bundle": options.bundle, "seconds": seconds, "trainings": trainings, "problems": problems}
        write_atomic(options.output, json.dumps(found, indent=1) + "\n")
    for line in problems or ["every model.pt is that of the undisturbed training, bit for bit"]:
        print(line)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
