"""Registration packages of others, called with files in an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import Tensor

from common.errors import InputError

from .pair import Pair

WORKER = Path(__file__).with_name("worker.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
# the worker's name of a package -> what is imported, what pip installs
PACKAGES = {
    "convexAdam": ("convexAdam", "convexadam"),
    "ants": ("ants", "antspyx"),
    "greedy": ("picsl_greedy", "picsl_greedy"),
    "elastix": ("itk.elxParameterObjectPython", "itk-elastix"),
}


@dataclass(frozen=True)
class Peer:
    """A row: a package and how it is used.

    Args:
        package: a key of PACKAGES.
        from_ours: start from our affine in the place of its own.
        options: of the worker's function for that package.
    """

    package: str
    from_ours: bool = False
    options: dict[str, Any] = field(default_factory=dict)


PEERS = {
    "convexAdam": Peer("convexAdam"),
    "convexAdam from our affine": Peer("convexAdam", from_ours=True),
    "ANTs SyN": Peer("ants"),
    "ANTs SyN from our affine": Peer("ants", from_ours=True),
    "Greedy": Peer("greedy"),
    "Greedy from our affine": Peer("greedy", from_ours=True),
    "elastix": Peer("elastix"),
    "elastix from our affine": Peer("elastix", from_ours=True),
    "elastix by correlation": Peer("elastix", options={"metric": "AdvancedNormalizedCorrelation"}),
}


class Environment:
    """An environment with the packages.

    Args:
        folder: of the virtual environment; None: there is none.
        work: takes the files of the pair in hand and the logs.
    """

    def __init__(self, folder: Path | None, work: Path) -> None:
        self.folder, self.work = folder, work.absolute()

    @cached_property
    def installed(self) -> set[str]:
        """The packages that are there."""
        if self.folder is None:
            return set()
        # an extension module such as elastix' own isn't told from ITK's package until it is looked for
        asked = "import sys, importlib.util as u\nfor n in sys.argv[1:]:\n try: print(n * bool(u.find_spec(n)))\n"
        asked += " except ImportError: pass"
        command = [str(self.python), "-c", asked, *(module for module, _ in PACKAGES.values())]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return {package for package, (module, _) in PACKAGES.items() if module in found}

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        python = (self.folder or Path()) / "bin" / "python"
        if not python.is_file():
            raise InputError(f"{self.folder}: found no bin/python; wanted a virtual environment")
        return python

    def missing(self, name: str) -> str | None:
        """Return a line where a row's package isn't there; None where it is."""
        package = PEERS[name].package
        if package in self.installed:
            return None
        return f"{name}: skipped; install {PACKAGES[package][1]} in the environment that --environment names"

    def propagated(self, name: str, pair: Pair, pixdim: list[float]) -> tuple[Tensor, float]:
        """Return the atlas's label [K, H, W, D] as a row's package warps it, and the CPU seconds.

        Args:
            name: of the row.
            pair: of one grid.
            pixdim: of that grid, mm.

        Raises:
            InputError: the package failed, with the last line that it said.
        """
        peer, folder = PEERS[name], self.work / "pair"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        spent = write_pair(folder, pair, pixdim, peer)
        log = self.work / f"{peer.package}.log"
        with open(log, "wb") as file:
            command = [str(self.python), str(WORKER), peer.package]
            done = subprocess.run(command, cwd=folder, env={**os.environ, **ONE_THREAD}, stdout=file, stderr=file)
        if done.returncode or not (folder / "report.json").is_file():
            said = log.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line for line in reversed(said) if line), "")
            raise InputError(f"{name}: skipped; status {done.returncode}, {last} ({log})")
        spent += json.loads((folder / "report.json").read_text(encoding="utf-8"))["cpu_seconds"]
        return read_label(folder, pair.atlas.label.shape[1]), spent


def write_pair(folder: Path, pair: Pair, pixdim: list[float], peer: Peer) -> float:
    """Write what the worker reads; return the CPU seconds of our affine where it starts from that, else 0."""
    atlas, classes = pair.atlas, range(1, pair.atlas.label.shape[1])
    # all grids are put to the same place: a scan's own origin is no hint, as ours has none
    to_mm = np.diag([*pixdim, 1.0])
    to_mm[:3, 3] = [-(n - 1) / 2 * step for n, step in zip(atlas.size, pixdim, strict=True)]
    volumes = {"fixed": atlas.grey(pair.fixed)[0, 0], "moving": atlas.grey(atlas.image)[0, 0]}
    volumes |= {f"label_{k}": atlas.label[0, k] for k in classes}
    for name, volume in volumes.items():
        nibabel.save(nibabel.Nifti1Image(volume.numpy().astype(np.float32), to_mm), folder / f"{name}.nii")
    affine, spent = pair.affine if peer.from_ours else (None, 0.0)
    matrix = None if affine is None else affine[0].tolist()
    job = {"affine": matrix, "classes": list(classes), "options": peer.options}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return spent


def read_label(folder: Path, count: int) -> Tensor:
    """Return the warped label [K, H, W, D]; background is what the other classes leave."""
    files = [folder / f"warped_{k}.nii" for k in range(1, count)]
    warped = np.stack([np.asarray(nibabel.load(path).dataobj, dtype=np.float32) for path in files])
    foreground = torch.from_numpy(warped).clamp(0, 1)
    return torch.cat([(1 - foreground.sum(0, keepdim=True)).clamp_min(0), foreground])
