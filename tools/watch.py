"""Segment series as they come, without a viewer: into a folder, or beside a DICOMweb server.

    python -m tools.watch FOLDER --bundle BUNDLE --output_dir OUT                   goes on until it is stopped
    python -m tools.watch http://HOST/dicom-web --bundle BUNDLE --output_dir OUT    and stores what it finds there
    python -m tools.watch FOLDER --bundle BUNDLE --output_dir OUT --once            ends when nothing is left
    python -m tools.watch ARCHIVE ... --once --part 2/4                         the second of four processes
    torchrun --nproc_per_node 4 -m tools.watch ARCHIVE ... --once               all four on one machine

OUT/KEY gets label map, DICOM Segmentation, review.csv and series.json of each series, OUT/review.csv the rows of all,
worst first. KEY is a hash; the log holds no name. What is stopped or killed goes on where it was. Keys of the bundle's
inference.json are overridden as ever: --device cpu. docs/watch.md tells the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError, find_input_error, plain_input_errors, printable
from common.launch.words import number, place

from .watching.dicomweb import AUTHORIZATION, DicomWebSource
from .watching.folder import FolderSource
from .watching.held_bundle import HeldBundle
from .watching.journal import Journal, only_journal
from .watching.results import Results
from .watching.series import Part, read_part
from .watching.service import OUT, Patience, Service

MODALITIES = "CT,MR,PT"
WEB = re.compile(r"https?://", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 also where SIGTERM or Ctrl-C ended it."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.watch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE", help="folder, searched at any depth, or address of DICOMweb")
    parser.add_argument("--bundle", type=place, required=True, metavar="DIR", help="folder of a bundle with a model")
    parser.add_argument(
        "--output_dir", type=place, required=True, metavar="OUT", help="folder for results, not in SOURCE"
    )
    parser.add_argument("--once", action="store_true", help="end when nothing is left")
    parser.add_argument("--part", metavar="I/N", help="one of N processes that share the series; all name the same N")
    parser.add_argument("--modality", default=MODALITIES, metavar="LIST", help=f"of DICOM series, default {MODALITIES}")
    parser.add_argument("--description", metavar="REGEX", help="what SeriesDescription has to match somewhere")
    parser.add_argument("--settle", default=60, metavar="S", help="seconds without a change, default 60")
    parser.add_argument("--poll", default=30, metavar="S", help="seconds between two looks, default 30")
    parser.add_argument("--tries", default=3, metavar="N", help="of a series that fails, default 3")
    parser.add_argument("--since", metavar="YYYYMMDD", help="first study date that a server is asked for")
    parser.add_argument("--no-store", action="store_true", help="give the server nothing: OUT alone")
    given, flags = parser.parse_known_args(arguments)
    patience = Patience(
        number("--settle", given.settle, least=0),
        number("--poll", given.poll, least=0.01),
        number("--tries", given.tries, whole=True, least=1),
    )
    part = read_part(given.part, os.environ.get("RANK"), os.environ.get("WORLD_SIZE"))
    source = open_source(given, os.environ)
    with only_journal(str(part) if part.count > 1 else "") as journal, ending(journal) as stop:
        results = Results(given.output_dir, part)
        try:
            model = HeldBundle(given.bundle, results.work / OUT, flags, own_device(part, os.environ))
            store = source if isinstance(source, DicomWebSource) and not given.no_store else None
            service = Service(source, model, results, journal, patience, store, stop)
            journal.note(f"begun: {len(results.entries)} series done before, model {model.about['model'][:12]}")
            service.run(given.once)
            journal.note(f"ended: {service.done} series segmented, {service.failed} not")
            return 0
        except Exception as error:  # its text may hold what a file says
            if find_input_error(error) is not None:
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            journal.note(f"ended by {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}")
            return 1
        finally:
            results.close()


@contextlib.contextmanager
def ending(journal: Journal) -> Iterator[threading.Event]:
    """Yield what SIGTERM and Ctrl-C set, for an end behind the series at hand; the second of them ends all at once."""
    stop = threading.Event()

    def end(received: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        journal.note(f"{signal.Signals(received).name}: ends after the series at hand")

    before = {name: signal.signal(name, end) for name in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def open_source(given: argparse.Namespace, environment: Mapping[str, str]) -> FolderSource | DicomWebSource:
    """Return what is watched.

    Raises:
        InputError: no folder and no address; a pattern or a date that is none; results would lie in the source.
    """
    try:
        description = None if given.description is None else re.compile(given.description, re.IGNORECASE)
    except re.error as error:
        raise InputError(f"--description is {given.description!r}; wanted a regular expression ({error})") from error
    modalities = [word for word in given.modality.upper().replace(" ", "").split(",") if word]
    if not modalities:
        raise InputError(f"--modality is {given.modality!r}; wanted such as {MODALITIES}")
    if WEB.match(given.source):
        if given.since is not None and not re.fullmatch(r"\d{8}", given.since):
            raise InputError(f"--since is {given.since!r}; wanted a date such as 20260131")
        return DicomWebSource(given.source, modalities, description, given.since, environment.get(AUTHORIZATION))
    folder = place(given.source)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; wanted one, or an address that begins with http")
    if given.since is not None or given.no_store:
        raise InputError("--since and --no-store are for DICOMweb servers; wanted neither with a folder")
    if given.output_dir.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{given.output_dir}: lies in {folder}, whose files would count as new; wanted another folder")
    return FolderSource(folder, modalities, description)


def own_device(part: Part, environment: Mapping[str, str]) -> str | None:
    """Return this process's GPU where torchrun has started several on a machine; None leaves it to inference.json."""
    import torch

    if "LOCAL_RANK" not in environment or part.count == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{int(environment['LOCAL_RANK']) % torch.cuda.device_count()}"


if __name__ == "__main__":
    plain_input_errors()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print(printable("stopped at once"), file=sys.stderr)
        sys.exit(130)
