"""MONAI Label's real server on loopback, with packed bundles of this repository, and the studies it serves."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from support.bundle.network import first_network
from support.bundle.path import BUNDLES
from support.bundle.run import ADA, ADAPTERS, RRL, SEMISAM, WEAK
from support.bundle.sources import copy_sources
from tools.pack import pack
from tools.unpack import unpack

RUNS = {run.name: run for run in (RRL, SEMISAM, WEAK, ADA, ADAPTERS)}
GRID = {"spatial_size": [32, 32, 16], "pixdim": [2.0, 2.0, 4.0], "label_values": [0, 1, 2, 3, 4, 5]}
# activation maps of a classifier, as where nobody has given a typical box
FURTHER = {
    "weakmedsam": {"backbone": "mobile_sam", "prior": "cam", "walk": "points", "prompt_grid": 2, "walk_steps": 2}
}
STARTS_WITHIN = 600.0


def make_repository(folder: Path, *names: str) -> Path:
    """Return the folder `bundles` of a repository of its own, with tiny settings in its configs and models."""
    copy_sources(BUNDLES.parent / "common", folder / "common")
    for name in names:
        bundle = copy_sources(BUNDLES / name, folder / "bundles" / name)
        settings = {**RUNS[name].tiny, **RUNS[name].without_sam, **FURTHER.get(name, {})}
        settings = {key: value for key, value in settings.items() if key not in ("device", "num_label_slices", "atlas")}
        for config in (bundle / "configs" / "train.json", bundle / "configs" / "inference.json"):
            content = json.loads(config.read_text(encoding="utf-8"))
            content |= {key: value for key, value in settings.items() if key in content}
            if "default" in content.get("grid", {}):
                content["grid"]["default"] = GRID
            config.write_text(json.dumps(content, indent=4), encoding="utf-8")
        (bundle / "models").mkdir()
        torch.save(first_network(bundle).state_dict(), bundle / "models" / "model.pt")
    return folder / "bundles"


def install(bundle: Path, models: Path) -> Path:
    """Pack a bundle as a maintainer does, and unpack it into an app's folder of models as a site does."""
    model = bundle / "models" / "model.pt"
    zipped, _ = pack(bundle, models.parent / "dist", model if model.is_file() else None, torchscript=False)
    models.mkdir(parents=True, exist_ok=True)
    unpack(zipped, models)
    return models / bundle.name


@dataclass(frozen=True)
class Server:
    """A running server: what it answers, and where its files are."""

    address: str
    app: Path
    studies: Path
    log: Path

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Return the JSON of an answer; `body` is sent as JSON."""
        data = None if body is None else json.dumps(body).encode()
        with self._open(path, data, {"Content-Type": "application/json"}, method) as answer:
            return json.loads(answer.read())

    def infer(self, model: str, image: str, output: str, **params: Any) -> bytes:
        """Return what /infer answers, its parameters sent as a form as the viewers do."""
        form = urllib.parse.urlencode({"params": json.dumps({"device": "cpu", **params})}).encode()
        query = urllib.parse.urlencode({"image": image, "output": output})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        with self._open(f"/infer/{model}?{query}", form, kind, "POST") as answer:
            return answer.read()

    def segment(self, model: str, image: str) -> nibabel.Nifti1Image:
        """Return the label map that /infer answers with."""
        return nibabel.Nifti1Image.from_bytes(gzip.decompress(self.infer(model, image, "image")))

    def submit(self, image: str, label: Path, *segments: str) -> None:
        """Save a final label as 3D Slicer does, with the names of its segments."""
        info = {"label_info": [{"name": name, "idx": number} for number, name in enumerate(segments, start=1)]}
        edge = "----a-part-of-a-form"
        parts = [f'--{edge}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(info)}\r\n'.encode()]
        head = f'--{edge}\r\nContent-Disposition: form-data; name="label"; filename="{label.name}"\r\n'
        parts += [f"{head}Content-Type: application/octet-stream\r\n\r\n".encode(), label.read_bytes()]
        parts += [f"\r\n--{edge}--\r\n".encode()]
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        with self._open(f"/datastore/label?image={image}&tag=final", b"".join(parts), kind, "PUT") as answer:
            answer.read()

    def wait(self, path: str, patience: float = 240.0) -> dict[str, Any]:
        """Return the state of the last task once it has ended."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            state = self.ask(path)
            if state["status"] in ("DONE", "ERROR", "STOPPED"):
                return state
            time.sleep(1)
        raise TimeoutError(f"{path}: {state}")

    def _open(self, path: str, data: bytes | None, headers: Mapping[str, str], method: str | None) -> Any:
        request = urllib.request.Request(self.address + path, data=data, headers=dict(headers), method=method)
        try:
            return urllib.request.urlopen(request, timeout=300)
        except urllib.error.HTTPError as error:
            error.add_note(self.log.read_text(encoding="utf-8", errors="replace")[-2000:])
            raise


@contextlib.contextmanager
def serve(
    python: Path,
    environment: Mapping[str, str],
    app: Path,
    studies: Path,
    *models: str,
    log: str = "server.log",
    next_model: str | None = None,
) -> Iterator[Server]:
    """Run `python -m monailabel.main start_server` inside the `with` block; its output is kept beside the app."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--conf", "models", ",".join(models), "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
    command += ["--conf", "next_model", next_model] if next_model else []
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (app.parent / log).open("wb") as said:
        process = subprocess.Popen(command, cwd=app.parent, env=environment, stdout=said, stderr=subprocess.STDOUT)
        server = Server(f"http://127.0.0.1:{port}", app, studies, app.parent / log)
        try:
            _wait_until_up(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_up(server: Server, process: subprocess.Popen) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            server.ask("/info/")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(1)
    said = server.log.read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"the server did not start (exit status {process.poll()}):\n{said[-4000:]}")


def copy_app(python: Path, environment: Mapping[str, str], folder: Path) -> Path:
    """Let MONAI Label copy its app for bundles, which comes with it, into `folder`."""
    command = [str(python), "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle"]
    subprocess.run([*command, "--output", str(folder)], check=True, env=environment, capture_output=True)
    return folder / "monaibundle"


def make_studies(cohort: Path, folder: Path) -> Path:
    """Return a folder of six scans, the third oblique, the fourth with thick slices; final labels of the first three.

    Where MONAI Label keeps what models predict, labels/original, lie files that no reader can read.
    """
    content = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))
    (folder / "labels" / "final").mkdir(parents=True)
    (folder / "labels" / "original").mkdir()
    for number, case in enumerate((content["training"] + content["validation"])[:6]):
        name = f"scan_{number}.nii.gz"
        for key, target in (("image", folder / name), ("label", folder / "labels" / "final" / name)):
            if key == "label" and number >= 3:
                continue
            volume = nibabel.load(cohort / case[key])
            array, affine = np.asarray(volume.dataobj), volume.affine
            if number == 2:
                affine = oblique() @ affine
            if number == 3:
                array, affine = array[:, :, ::3], affine @ np.diag([1, 1, 3, 1])
            nibabel.save(nibabel.Nifti1Image(array, affine), target)
    for number in (3, 4, 5):
        (folder / "labels" / "original" / f"scan_{number}.nii.gz").write_bytes(b"no label at all")
    return folder


def oblique() -> np.ndarray:
    """Return a rotation by 20 degrees about the patient's long axis."""
    angle = np.deg2rad(20)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turned
