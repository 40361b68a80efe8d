"""Run a bundle as a user does: in this process, or by its command on a copy of the bundle."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from torch import nn

from common.sam.members.preprocessing import Preprocessing
from support.bundle.path import BUNDLES, import_bundle

_opened: list[str] | None = None  # an audit hook can't be taken off again, so it looks here


def _note_open(event: str, arguments: tuple) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | os.PathLike):
        _opened.append(os.path.realpath(arguments[0]))


sys.addaudithook(_note_open)


@contextlib.contextmanager
def files_opened() -> Iterator[list[str]]:
    """Collect the real paths of all files that are opened inside the `with` block."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


@dataclass(frozen=True)
class BundleRun:
    """A bundle of the repository and the settings that make its runs tiny.

    `without_sam` are the settings that leave its foundation models out; a test that wants one overrides them.
    """

    name: str
    tiny: dict[str, Any]
    without_sam: dict[str, Any]

    @property
    def folder(self) -> Path:
        return BUNDLES / self.name

    @property
    def configs(self) -> Path:
        return self.folder / "configs"

    def run(
        self, configs: Sequence[str], folder: Path, dataset_dir: Path, kind: str = "train", **overrides: Any
    ) -> tuple[ConfigWorkflow, str]:
        """Run configs of the bundle in this process, all output below `folder`; return it and what it said."""
        settings = {**self.tiny, **self.without_sam, "bundle_root": str(self.folder), "dataset_dir": str(dataset_dir)}
        settings |= {f"{name}_dir": str(folder / name) for name in ("output", "ckpt", "cache")} | overrides
        path, hook, said = list(sys.path), sys.excepthook, io.StringIO()
        import_bundle(self.name)
        try:
            with contextlib.redirect_stdout(said):
                files = [str(self.configs / name) for name in configs]
                flow = ConfigWorkflow(files, workflow_type=kind, logging_file=False, **settings)
                flow.initialize()
                flow.run()
                flow.finalize()
        finally:
            sys.path[:] = path
            sys.excepthook = hook
        return flow, said.getvalue()

    def copy(self, folder: Path) -> Path:
        """Copy the bundle as it is packed, `scripts/common` as plain files, without what runs left in it."""
        left = {"cache", "data", "eval"}

        def ignore(directory: str, names: list[str]) -> set[str]:
            unwanted = left if Path(directory) == self.folder else set()
            return {
                name for name in names if name in unwanted or name == "__pycache__" or ".pt" in name or ".safe" in name
            }

        return Path(shutil.copytree(self.folder, folder, symlinks=False, ignore=ignore))

    def flags(self, **settings: Any) -> list[str]:
        """Return the tiny settings with changes as words of a command line; a SAM is not used unless named."""
        words = {**self.tiny, **self.without_sam, **settings}
        return [f"--{name}={'null' if value is None else value}".replace(" ", "") for name, value in words.items()]


RRL = BundleRun(
    "rrl_medsam",
    {
        "atlas": "sample_001",
        "epoch_length": 4,
        "distill_epochs": 1,
        "register_epochs": 1,
        "max_voxels": 8192,
        "epochs": 2,
        "instance_steps": 5,
        "levels": 1,
        "coarse_steps": 2,
        "rounds": 2,
        "bridges": 1,
        "bridge_steps": 2,
        "tta_views": 0,
        "channels": [4, 8, 8, 8],
        "device": "cpu",
    },
    {"sam": None},
)
SEMISAM = BundleRun(
    "semisam_plus",
    {
        "epoch_length": 3,
        "epochs": 2,
        "generalist_from": 1,
        "answer_every": 1,
        "num_labeled": 2,
        "labels_from_registration": False,
        "self_training": False,
        "max_voxels": 8192,
        "levels": 1,
        "channels": [4, 8],
        "strides": [2],
        "device": "cpu",
    },
    {"generalist": None},
)
WEAK = BundleRun(
    "weakmedsam",
    {
        "max_voxels": 8192,
        "levels": 1,
        "channels": [4, 8],
        "strides": [2],
        "backbone_image_size": 64,
        "subclasses": 2,
        "hidden": 8,
        "classify_epochs": 1,
        "rounds": 2,
        "appearance_epochs": 1,
        "epochs": 2,
        "epoch_length": 3,
        "device": "cpu",
    },
    {"backbone": None},
)
ADA = BundleRun(
    "ada_sam",
    {
        "num_label_slices": 3,
        "max_voxels": 8192,
        "levels": 1,
        "channels": [4, 8],
        "strides": [2],
        "sam_image_size": 64,
        "views": 1,
        "hidden": 8,
        "classify_epochs": 1,
        "classify_length": 3,
        "classify_others": 4,
        "adapt_epochs": 2,
        "adapt_length": 2,
        "unet_epochs": 2,
        "unet_length": 2,
        "unet_batch": 2,
        "labeled_batch": 2,
        "unlabeled_batch": 2,
        "epochs": 2,
        "epoch_length": 3,
        "device": "cpu",
    },
    {},
)

ADAPTERS = BundleRun(
    "sam_adapters",
    {
        "num_labeled": 2,
        "max_voxels": 8192,
        "levels": 1,
        "channels": [4, 8],
        "strides": [2],
        "sam_image_size": 64,
        "views": 1,
        "adapt_epochs": 2,
        "adapt_length": 2,
        "adapt_batch": 2,
        "labeled_batch": 1,
        "epochs": 2,
        "epoch_length": 3,
        "device": "cpu",
    },
    {},
)


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


def files_below(folder: Path) -> set[str]:
    """Return the paths of all files below a folder; TensorBoard's lose the machine and time in their names."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"(events\.out\.tfevents).*", r"\1", path) for path in paths}


def logged_losses(folder: Path) -> list[float]:
    """Return the training losses that TensorBoard finds in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return [point.value for tag in events.Tags()["scalars"] if "loss" in tag for point in events.Scalars(tag)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a model.pt."""
    return torch.load(path, weights_only=True)


def assert_same_weights(found: Path, wanted: Path) -> None:
    """Compare two files of weights bit for bit."""
    found, wanted = weights(found), weights(wanted)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def scores(path: Path) -> list[dict]:
    """Return the rows of a metrics.json."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def errors_of(process: subprocess.Popen) -> list[str]:
    """Return the `error:` lines of a command that must fail and say nothing else of its own."""
    said, complaints = process.communicate(timeout=600)
    assert process.returncode not in (0, None)
    assert "Traceback" not in complaints + said
    lines = [line for line in complaints.splitlines() if not line.startswith("parsing config_file")]  # MONAI's notice
    assert all(line.startswith("error: ") for line in lines), complaints
    return lines


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
    """Let RRL-MedSAM's teacher build a FakeSam, whose weights are said to be a file in `folder`."""
    teacher, sam = import_bundle("rrl_medsam", "learning.teacher"), FakeSam()
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "fake_sam.pt"
    weights.write_bytes(b"fake")
    patch.setattr(teacher, "build_sam", lambda name, checkpoint, image_size: sam)
    patch.setattr(teacher, "find_weights", lambda name, checkpoint=None: weights)
    return sam
