"""Orthanc on loopback as a hospital's archive: DICOMweb in, DICOMweb out."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STARTS_WITHIN = 60.0


def missing() -> list[str]:
    """Return which of the archive's parts this machine lacks."""
    return [name for name, there in (("orthanc", orthanc()), ("orthanc-dicomweb", PLUGIN.exists())) if not there]


def orthanc() -> str | None:
    """Return the program, which Debian puts where only root's PATH leads."""
    return shutil.which("Orthanc") or shutil.which("/usr/sbin/Orthanc")


@dataclass(frozen=True)
class Archive:
    """A running archive: where its DICOMweb service is."""

    address: str

    @property
    def client(self) -> DICOMwebClient:
        from dicomweb_client import DICOMwebClient

        return DICOMwebClient(self.address)

    def store(self, *places: Path) -> None:
        """Send files, and all files of folders (STOW-RS)."""
        files = [file for place in places for file in (sorted(place.iterdir()) if place.is_dir() else [place])]
        answer = self.client.store_instances([pydicom.dcmread(file) for file in files])
        assert not answer.get("FailedSOPSequence") and len(answer.ReferencedSOPSequence) == len(files), answer

    def find(self, level: str, fields: Sequence[str] = (), **wanted: Any) -> list[pydicom.Dataset]:
        """Return what a search (QIDO-RS) for "studies", "series" or "instances" finds."""
        search = getattr(self.client, f"search_for_{level}")
        return [pydicom.Dataset.from_json(each) for each in search(search_filters=wanted, fields=list(fields) or None)]

    def fetch(self, series: str) -> list[pydicom.Dataset]:
        """Return the files of a series (WADO-RS)."""
        (found,) = self.find("series", SeriesInstanceUID=series)
        return self.client.retrieve_series(found.StudyInstanceUID, series)

    def segmentations(self, series: str) -> list[pydicom.Dataset]:
        """Return the DICOM Segmentations that refer to a series, the oldest first."""
        found = [each.SeriesInstanceUID for each in self.find("series", Modality="SEG")]
        files = [file for each in found for file in self.fetch(each)]
        files = [file for file in files if file.ReferencedSeriesSequence[0].SeriesInstanceUID == series]
        return sorted(files, key=lambda file: (file.get("ContentDate", ""), file.get("ContentTime", "")))


@contextlib.contextmanager
def run_archive(folder: Path) -> Iterator[Archive]:
    """Run Orthanc with its DICOMweb plugin inside the `with` block, all of its files below `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True)
    settings = {
        "Name": "archive",
        "StorageDirectory": str(folder / "files"),
        "IndexDirectory": str(folder / "files"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Host": f"127.0.0.1:{port}"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as said:
        command = [orthanc() or "Orthanc", str(folder / "orthanc.json")]
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        try:
            archive = Archive(f"http://127.0.0.1:{port}/dicom-web")
            _wait_until_up(archive, process, folder / "orthanc.log")
            yield archive
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_up(archive: Archive, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{archive.address}/studies", timeout=10):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.3)
    said = log.read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"Orthanc did not start (exit status {process.poll()}):\n{said[-4000:]}")
