"""Data sets, settings and the command of a simulated federation."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from support.bundle.path import BUNDLES
from support.bundle.run import BundleRun
from tools.pack import pack

OWN = ("epochs", "num_labeled", "atlas")  # the job says how long, and each site which labels


def split(whole: Path, folder: Path, unlabelled: str, names: str = "AB") -> dict[str, Path]:
    """Data sets of sites that share no case; the site `unlabelled` has lost the labels of its training cases."""
    content = json.loads((whole / "dataset.json").read_text(encoding="utf-8"))
    content.pop("generator")
    found, taken = {}, []
    for first, name in enumerate(names):
        own = {**content, **{key: content[key][first :: len(names)] for key in ("training", "test")}}
        taken += [case["image"] for case in own["training"]]
        for title, cases in ((name, own["training"]), (f"{name} without labels", strip(own["training"]))):
            if title != name and name != unlabelled:
                continue
            found[title] = folder / title.replace(" ", "_")
            for case in cases + own["test"]:
                for file in case.values():
                    (found[title] / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(whole / file, found[title] / file)
            (found[title] / "dataset.json").write_text(json.dumps({**own, "training": cases}))
    assert len(set(taken)) == len(content["training"])
    return found


def strip(cases: list[dict]) -> list[dict]:
    return [{"image": case["image"]} for case in cases]


def tiny(bundle: BundleRun, **changes) -> dict:
    settings = {**bundle.tiny, **bundle.without_sam, **changes}
    return {key: value for key, value in settings.items() if key not in OWN}


def federate(
    name: str,
    data: dict[str, Path],
    settings: dict,
    *more: str,
    python: Path,
    folder: Path,
    environment: Callable[..., dict[str, str]],
    program: tuple[str, ...] = ("-m", "tools.federated_job"),
) -> tuple[Path, str, int]:
    """Run `tools.federated_job` for data sets by site; return its folder, what it said and how it ended."""
    archive, workspace = pack(BUNDLES / name, folder / "dist", None)[0], folder / name
    command = [str(python), *program, "--bundle", str(archive), "--workspace", str(workspace), *more]
    for site, place in data.items():
        command += ["--site", f"{site}={place}"]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    # NVFLARE's sockets lie in TMPDIR, and a socket's path has 107 letters at most
    with tempfile.TemporaryDirectory(prefix="fl") as short:
        done = subprocess.run(
            command,
            cwd=BUNDLES.parent,
            env=environment(python, TMPDIR=short),
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    return workspace, done.stdout + done.stderr, done.returncode
