"""The trained weights in the forms that clients open: model.pt, model.safetensors and TorchScript's model.ts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from common.errors import InputError

_REASON_LENGTH = 300


def add_weights(source: Path, models: Path) -> int:
    """Put model.pt, and the same tensors as model.safetensors, into the folder `models`; return how many there are.

    model.pt stays as it is to the last byte, unless its tensors lie on a GPU: then they are moved, since most clients
    open it without saying where to.

    Raises:
        InputError: no such file, or not a flat dict of tensors.
    """
    import torch
    from safetensors.torch import save

    from common.files.atomic_write import write_atomic
    from common.files.tensor_files import atomic_save

    places: set[str] = set()

    def to_cpu(storage, place: str):
        places.add(place)
        return storage

    if not source.is_file():
        raise InputError(f"{source}: no such file; wanted a trained model: run train.json, or pack --without-model")
    try:
        content = torch.load(source, map_location=to_cpu, weights_only=True)
    except Exception as error:  # whatever a truncated or hostile file makes the reader raise
        raise InputError(
            f"{source}: {_first_line(str(error))}; wanted a file of tensors written by train.json"
        ) from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"{source}: found no tensors by name; wanted a flat state dict, as train.json writes it")
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise InputError(f"{source}: {', '.join(others[:5])} are no tensors; wanted a flat state dict")
    models.mkdir(parents=True, exist_ok=True)
    if places <= {"cpu"}:
        shutil.copyfile(source, models / "model.pt")
    else:
        atomic_save(dict(content), models / "model.pt")
    tensors = {name: value.detach().clone().contiguous() for name, value in content.items()}  # no shared memory
    write_atomic(models / "model.safetensors", save(tensors))
    return len(tensors)


def add_torchscript(bundle: Path) -> None:
    """Make models/model.ts of a bundle's folder by MONAI's ckpt_export, from its configs, scripts and models/model.pt.

    It runs in a process of its own inside that folder, so that nothing but the package is used. What differs from run
    to run is taken out of the file: the order of a set (a fixed hash seed) and where sources lay (debug records).

    Raises:
        InputError: the network can't be exported, or model.pt doesn't fit what configs/inference.json builds.
    """
    target = Path("models") / "model.ts"
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "ckpt_export",
        "--net_id",
        "network_def",
        "--filepath",
        str(target),
    ]
    command += ["--ckpt_file", "models/model.pt", "--meta_file", "configs/metadata.json"]
    command += ["--config_file", "configs/inference.json", "--bundle_root", "."]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONSAFEPATH", None)  # the folder itself has to be on the path
    done = subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode or not (bundle / target).is_file():
        reason = _first_line(done.stderr.strip().rpartition("\n")[2])
        raise InputError(
            f"{bundle.name}/{target.as_posix()}: can't be made ({reason}); wanted a model.pt and a network that fit "
            "configs/inference.json and TorchScript, or pack --without-torchscript"
        )
    _strip(bundle / target)


def _strip(path: Path) -> None:
    """Rewrite a TorchScript file without its debug records (absolute paths of sources), all members stored."""
    stripped = path.with_suffix(".stripped")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stripped, "w") as new:
        for member in sorted(old.infolist(), key=lambda member: member.filename):
            # the serialization id is a hash that covers the debug records
            if not member.filename.endswith((".debug_pkl", "/.data/serialization_id")):
                new.writestr(zipfile.ZipInfo(member.filename), old.read(member))
    os.replace(stripped, path)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:_REASON_LENGTH] if lines else "no reason given"
