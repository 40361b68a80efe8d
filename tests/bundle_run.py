"""Run the RRL-MedSAM bundle as a user does: in this process, or by its command on a copy of the bundle."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bundle_path import BUNDLES, import_bundle
from monai.bundle import ConfigWorkflow
from torch import nn

from common.sam.preprocessing import Preprocessing

BUNDLE = BUNDLES / "rrl_medsam"
CONFIGS = BUNDLE / "configs"
TINY: dict[str, Any] = {
    "epoch_length": 4,
    "distill_epochs": 1,
    "register_epochs": 1,
    "epochs": 2,
    "instance_steps": 5,
    "coarse_steps": 2,
    "tta_views": 0,
    "channels": [4, 8, 8, 8],
    "device": "cpu",
}


def run_bundle(
    configs: Sequence[str], folder: Path, dataset_dir: Path, kind: str = "train", **overrides: Any
) -> tuple[ConfigWorkflow, str]:
    """Run configs of the repository's bundle in this process, all output below `folder`; return it and what it said."""
    settings = {**TINY, "sam": None, "bundle_root": str(BUNDLE), "dataset_dir": str(dataset_dir)}
    settings |= {f"{name}_dir": str(folder / name) for name in ("output", "ckpt", "cache")} | overrides
    path, hook, said = list(sys.path), sys.excepthook, io.StringIO()
    import_bundle("rrl_medsam")
    try:
        with contextlib.redirect_stdout(said):
            files = [str(CONFIGS / name) for name in configs]
            flow = ConfigWorkflow(files, workflow_type=kind, logging_file=False, **settings)
            flow.initialize()
            flow.run()
            flow.finalize()
    finally:
        sys.path[:] = path
        sys.excepthook = hook
    return flow, said.getvalue()


def copy_bundle(folder: Path) -> Path:
    """Copy the bundle as it is packed, `scripts/common` as plain files, without what runs left in it."""
    left = {"cache", "data", "eval"}

    def ignore(directory: str, names: list[str]) -> set[str]:
        unwanted = left if Path(directory) == BUNDLE else set()
        return {name for name in names if name in unwanted or name == "__pycache__" or ".pt" in name}

    return Path(shutil.copytree(BUNDLE, folder, symlinks=False, ignore=ignore))


def command(
    configs: Sequence[Path | str], *flags: str, cwd: Path, processes: int = 0, **environment: str
) -> subprocess.Popen:
    """Start `python -m monai.bundle run`, by torchrun where `processes` are wanted."""
    start = [sys.executable, "-m"]
    if processes:
        start += ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    names = [str(name) for name in configs]
    file = names[0] if len(names) == 1 else str(names)
    return subprocess.Popen(
        [*start, "monai.bundle", "run", "--config_file", file, *flags],
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def flags(**settings: Any) -> list[str]:
    """Return TINY with changes as words of a command line; a SAM is not used unless named."""
    return [f"--{name}={value}".replace(" ", "") for name, value in {**TINY, "sam": "null", **settings}.items()]


def files_below(folder: Path) -> set[str]:
    """Return the paths of all files below a folder; TensorBoard's lose the machine and time in their names."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"(events\.out\.tfevents).*", r"\1", path) for path in paths}


def subset_cohort(source: Path, folder: Path, **counts: int) -> Path:
    """Copy the first cases of each list (`training=4, test=1`) of a cohort; lists that are not named stay empty."""
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    content.pop("generator")
    for group in ("training", "validation", "test"):
        content[group] = content[group][: counts.get(group, 0)]
        for case in content[group]:
            for name in case.values():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, folder / name)
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


class FakeSam(nn.Module):
    """Stands for a SAM: 256 channels on a 4 x 4 grid of tokens, frozen; it counts the slices that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(64)
        self.image_encoder = nn.Conv2d(3, 256, 16, stride=16)
        weight = torch.randn(self.image_encoder.weight.shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            self.image_encoder.weight.copy_(0.1 * weight)
            self.image_encoder.bias.zero_()
        self.slices = 0
        self.image_encoder.register_forward_hook(self._count)
        self.requires_grad_(False)
        self.eval()

    def _count(self, module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.slices += len(output)


def use_fake_sam(patch: Any, folder: Path) -> FakeSam:
    """Let the bundle's teacher build a FakeSam, whose weights are said to be a file in `folder`."""
    teacher, sam = import_bundle("rrl_medsam", "teacher"), FakeSam()
    weights = folder / "fake_sam.pt"
    weights.write_bytes(b"fake")
    patch.setattr(teacher, "build_sam", lambda name, checkpoint, image_size: sam)
    patch.setattr(teacher, "find_weights", lambda name, checkpoint=None: weights)
    return sam
