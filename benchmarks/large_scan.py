"""What a scan costs by its size: CPU time above start-up and peak memory of the commands that a user types.

    python -m benchmarks.large_scan IMAGE --model model.pt [--sizes 64x64x64 512x512x1000] [--kind float32]
    python -m benchmarks.large_scan IMAGE --label LABEL --cases 2 [--sizes 512x512x1000] [--set epochs=1 levels=2]

The first predicts, the second trains. A scan of each size is made from one case (a NIfTI file with 0 to 255 over a
window from -160 to 240 HU, as BTCV's): repeated along the body, 410 x 410 x 1000 mm, with noise, air, and corners that
no scanner has measured, so that all sizes show the same. Each command runs in a process of its own, with one thread.
Start-up is what the same command takes for a scan of 32 x 32 x 32 voxels, to predict of 1 mm.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
EXTENT = (410.0, 410.0, 1000.0)  # mm
NOISE = 12.0  # HU
START = (32, 32, 32), (32.0, 32.0, 32.0)
KINDS = ("int16", "uint16", "float32", "scaled")  # scaled: integers with a slope and an intercept


def sampled(case: nibabel.Nifti1Image, size: Sequence[int], extent: Sequence[float]) -> np.ndarray:
    """Return the nearest voxels of a case on a grid of some size and extent, mm; it is repeated along the last axis."""
    steps = (np.arange(n) * (mm / n) for n, mm in zip(size, extent, strict=True))
    places = [(step / p).astype(int) for step, p in zip(steps, case.header.get_zooms(), strict=True)]
    places = [
        place % n if axis == 2 else np.clip(place, 0, n - 1)
        for axis, (place, n) in enumerate(zip(places, case.shape, strict=True))
    ]
    return np.asarray(case.dataobj)[np.ix_(*places)]


def write_scan(
    case: nibabel.Nifti1Image, size: Sequence[int], extent: Sequence[float], kind: str, path: Path, seed: int = 0
) -> None:
    """Write the scan of a size, in HU; see the head of this file."""
    rng, body = np.random.default_rng(seed), sampled(case, size, extent)
    x, y = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in size[:2])]
    beyond = x**2 + y**2 > 1
    scan = np.empty(size, np.int16, order="F")
    for index in range(size[2]):
        plane = body[:, :, index]
        values = np.where(plane <= 1, -1000, plane / 255 * 400 - 160) + rng.normal(0, NOISE, plane.shape)
        scan[:, :, index] = np.where(beyond, -1024, values.round())
    slope, inter = (0.5, -1024.0) if kind == "scaled" else (None, None)
    if kind in ("uint16", "scaled"):
        scan = (scan + 1024).astype(np.uint16)
    save(scan.astype(kind if kind == "float32" else scan.dtype, copy=False), extent, path, slope, inter)


def save(
    voxels: np.ndarray, extent: Sequence[float], path: Path, slope: float | None = None, inter: float | None = None
) -> None:
    """Write voxels as they are."""
    image = nibabel.Nifti1Image(voxels, np.diag([*np.divide(extent, voxels.shape), 1.0]))
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)


def write_data_set(
    case: str, label: str, size: Sequence[int], extent: Sequence[float], kind: str, cases: int, folder: Path
) -> None:
    """Write a data set of so many labelled scans of a size."""
    image, truth = nibabel.load(case), nibabel.load(label)
    mask = sampled(truth, size, extent).astype(np.uint8)
    names = {"0": "background", **{str(value): f"label {value}" for value in np.unique(mask) if value}}
    training = []
    for number in range(cases):
        training.append({"image": f"{number}.nii.gz", "label": f"{number}_label.nii.gz"})
        write_scan(image, size, extent, kind, folder / training[-1]["image"], number)
        save(mask, extent, folder / training[-1]["label"])
    content = {"name": "large", "labels": names, "modality": {"0": "CT"}, "training": training}
    (folder / "dataset.json").write_text(json.dumps(content))


def in_child(work: Callable[..., None], *arguments: Any) -> None:
    """Do something in another process: the peak of a command counts that of the process which starts it."""
    process = get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join()


def measure(config: str, bundle: str, settings: dict[str, str]) -> tuple[float, float, str]:
    """Return CPU seconds, peak GB, and the last line that a command printed."""
    place = ROOT / "bundles" / bundle
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(place / "configs" / config)]
    command += [f"--{name}={value}" for name, value in {"bundle_root": str(place), **settings}.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        raise SystemExit("\n".join(lines[-20:]))
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6, lines[-1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("image", help="NIfTI file that scans are made from")
    arguments.add_argument("--model", help="model.pt that predicts")
    arguments.add_argument("--label", help="of the image: train on such scans instead")
    arguments.add_argument("--cases", type=int, default=2, help="scans to train on")
    arguments.add_argument("--bundle", default="semisam_plus")
    arguments.add_argument("--sizes", nargs="+", default=["64x64x64", "128x128x128", "256x256x256", "512x512x1000"])
    arguments.add_argument("--kind", choices=KINDS, default="int16")
    arguments.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the config")
    options = arguments.parse_args()
    if (options.model is None) == (options.label is None):
        arguments.error("wanted one of --model and --label")
    settings = dict(word.partition("=")[::2] for word in options.set)
    table = Table(title=f"{options.bundle}, {options.kind}")
    for name in ("voxels", "million", "CPU-s above start-up", "per million", "peak GB", "it says"):
        table.add_column(name)
    start = 0.0
    sizes = [tuple(int(n) for n in text.split("x")) for text in options.sizes]
    first = START if options.label is None else (START[0], EXTENT)  # what is trained on has to show labels
    for size, extent in [first, *((size, EXTENT) for size in sizes)]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "in").mkdir()
            own = {"output_dir": f"{folder}/out", "dataset_dir": f"{folder}/in", **settings}
            if options.label is not None:
                made = options.image, options.label, size, extent, options.kind, options.cases, folder / "in"
                in_child(write_data_set, *made)
                own |= {"ckpt_dir": f"{folder}/models", "cache_dir": f"{folder}/cache"}
                used, peak, said = measure("train.json", options.bundle, own)
            else:
                scan = nibabel.load(options.image), size, extent, options.kind, folder / "in" / "scan.nii.gz"
                in_child(write_scan, *scan)
                own["ckpt_path"] = options.model
                used, peak, said = measure("inference.json", options.bundle, own)
        start = start or used
        million = np.prod(size) / 1e6
        row = f"{million:.1f}", f"{used - start:.1f}", f"{(used - start) / million:.2f}", f"{peak:.2f}", said[-60:]
        table.add_row("x".join(str(n) for n in size), *row)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
