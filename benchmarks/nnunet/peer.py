"""Plan, train and predict with the real nnU-Net, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRAINER, TRAINER_FILE = "nnUNetTrainerCpuSeconds", Path(__file__).with_name("trainer.py")
NUMBER, NAME = 501, "Dataset501_Few"
PLANS, FOLD, DEVICE = "nnUNetPlans", "all", "cpu"


class NnUNet:
    """nnU-Net in an environment, with its folders below `work`.

    Args:
        environment: folder of a virtual environment that has nnunetv2.
        work: takes raw data, preprocessed data, results, predictions and logs.
        threads: of one process.
    """

    def __init__(self, environment: Path, work: Path, threads: int = 1) -> None:
        self.environment, self.work, self.threads = environment, work.absolute(), threads
        if not (environment / "bin" / "nnUNetv2_train").is_file():
            raise SystemExit(f"{environment}: found no bin/nnUNetv2_train; wanted an environment with nnunetv2")

    @property
    def raw(self) -> Path:
        """Where `write_raw` is to put the data set."""
        return self.work / "raw" / NAME

    def plan(self, spacing: Sequence[float] | None = None) -> list[str]:
        """Plan and preprocess; return the 3D configurations that were planned, without the cascade's second.

        Args:
            spacing: mm of 3d_fullres along the axes as SimpleITK's arrays have them, z first; None: nnU-Net's own.
        """
        words = ["-d", str(NUMBER), "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
        words += [] if spacing is None else ["-overwrite_target_spacing", *(f"{size:g}" for size in spacing)]
        self._run("nnUNetv2_plan_and_preprocess", *words)
        plans = json.loads((self.work / "preprocessed" / NAME / f"{PLANS}.json").read_text(encoding="utf-8"))
        return [name for name in ("3d_fullres", "3d_lowres") if name in plans["configurations"]]

    def preprocess(self, configuration: str) -> None:
        """Bring the cases to the voxels of a further configuration."""
        self._run("nnUNetv2_preprocess", "-d", str(NUMBER), "-c", configuration, "-np", "1")

    def train(self, configuration: str, cpu_seconds: float) -> dict[str, Any]:
        """Train on all cases until the CPU time is spent; return what the trainer says of it."""
        place = self.work / "trainer"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copy(TRAINER_FILE, place)
        shutil.rmtree(self.results(configuration), ignore_errors=True)
        # no process beside that loads and augments: the CPU time of the training is that of one
        settings = {"CPU_SECONDS": str(cpu_seconds), "nnUNet_extTrainer": str(place), "nnUNet_n_proc_DA": "0"}
        words = (str(NUMBER), configuration, FOLD, "-tr", TRAINER, "-device", DEVICE)
        self._run("nnUNetv2_train", *words, **settings)
        return json.loads((self.results(configuration) / "cpu_seconds.json").read_text(encoding="utf-8"))

    def predict(self, configuration: str, mirror: bool = False) -> Path:
        """Predict the cases of imagesTs with the last weights; return the folder of <case>.nii.gz, classes 0 to K - 1.

        Args:
            mirror: also all mirrored images, eight times the work, which is nnU-Net's default.
        """
        found = self.work / "predicted" / configuration
        shutil.rmtree(found, ignore_errors=True)
        words = ["-i", str(self.raw / "imagesTs"), "-o", str(found), "-d", str(NUMBER), "-c", configuration]
        words += ["-f", FOLD, "-tr", TRAINER, "-device", DEVICE, "-npp", "1", "-nps", "1"]
        words += [] if mirror else ["--disable_tta"]
        self._run("nnUNetv2_predict", *words, nnUNet_extTrainer=str(self.work / "trainer"))
        return found

    def results(self, configuration: str) -> Path:
        """Return where a training leaves its checkpoint and its report."""
        return self.work / "results" / NAME / f"{TRAINER}__{PLANS}__{configuration}" / f"fold_{FOLD}"

    def _run(self, program: str, *words: str, **settings: str) -> None:
        folders = {f"nnUNet_{name}": str(self.work / name) for name in ("raw", "preprocessed", "results")}
        own = {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f", "MPLBACKEND": "Agg"}
        own |= {"OMP_NUM_THREADS": str(self.threads)}
        log = self.work / f"{program}.log"
        self.work.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            command = [str(self.environment / "bin" / program), *words]
            done = subprocess.run(command, env={**os.environ, **folders, **own, **settings}, stdout=file, stderr=file)
        if done.returncode:
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            raise SystemExit("\n".join([f"{program}: status {done.returncode}, {log}", *last]))
