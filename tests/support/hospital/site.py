"""A hospital on loopback: an archive with scans, and MONAI Label's server on it with every bundle."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.sam.weights.known import bring_weights
from support.clients.environment import environment
from support.clients.monailabel_server import RUNS, Server, copy_app, install, make_repository, serve
from support.hospital.archive import Archive, run_archive
from support.hospital.bright import NAME, make_bright
from support.hospital.scans import write_case, write_ellipsoid

BUNDLES = sorted(RUNS)
MODALITIES = ["CT", "CT", "CT", "MR"]  # of the patients 1 to 4, who have scans of the sample cohort
ELLIPSOID, UPWARDS = 5, 6  # patients whose scan is one bright ellipsoid; of the last, the slices count upwards


@dataclass(frozen=True)
class Hospital:
    """What runs, and `series`, the folder of each patient's scan as it was sent."""

    archive: Archive
    server: Server
    series: dict[int, Path]
    cohort: Path
    cases: list[dict[str, str]]

    def by_name(self, series: str) -> Path:
        """Return where a bundle writes the label that it learns from, of a scan of the archive."""
        (cache,) = (self.server.app.parent / "cache").iterdir()
        return cache / "labels" / "by_name" / f"{series}.nii.gz"


@contextlib.contextmanager
def run_hospital(python: Path, cohort: Path, folder: Path) -> Iterator[Hospital]:
    """Run it inside the `with` block, all of its files below `folder`.

    Args:
        python: of MONAI Label.
        cohort: a sample cohort of four training cases or more.
    """
    variables = environment(
        python,
        MONAI_LABEL_DICOMWEB_CACHE_PATH=str(folder / "cache"),
        MONAI_LABEL_DICOMWEB_SEARCH_FILTER=json.dumps({"Modality": "CT,MR"}),
        MONAI_LABEL_DICOMWEB_CACHE_EXPIRY="1",
    )
    bring_weights("mobile_sam")  # as `make demo` does
    app = copy_app(python, variables, folder)
    bundles = make_repository(folder / "repository", *BUNDLES)
    for bundle in [*(bundles / name for name in BUNDLES), make_bright(folder / "bright")]:
        install(bundle, app / "model")
    cases = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))["training"][: len(MODALITIES)]
    series = {
        patient: write_case(folder / f"patient_{patient}", cohort / case["image"], patient, modality=modality)
        for patient, (case, modality) in enumerate(zip(cases, MODALITIES, strict=True), start=1)
    }
    series[ELLIPSOID] = write_ellipsoid(folder / "ellipsoid", "oblique", ELLIPSOID)
    series[UPWARDS] = write_ellipsoid(folder / "upwards", "oblique", UPWARDS, upwards=True)
    with run_archive(folder / "archive") as archive:
        for place in series.values():
            archive.store(place)
        with serve(python, variables, app, archive.address, *BUNDLES, NAME) as server:
            yield Hospital(archive, server, series, cohort, cases)
