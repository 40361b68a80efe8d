"""Series that come into a folder, at any depth: DICOM by what its headers say, and single files of volumes."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.volumes.dicom.headers import DICOMDIR, is_dicom

from .series import Series

# formats of one file each; a header with its voxels elsewhere names them, and may come before they do
SINGLE = (".nii.gz", ".nii", ".nrrd", ".mha")
TAGS = ["SeriesInstanceUID", "SOPInstanceUID", "Modality", "SeriesDescription", "SeriesNumber"]
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Header:
    """What a DICOM file says of itself; of one that can't be read `modality` is UNREADABLE."""

    series: str
    instance: str
    modality: str
    description: str = ""
    number: int | None = None


class FolderSource:
    """Find series by their files. Headers are read once; what is looked at again is names, sizes and times.

    Files and folders whose names begin with a dot are passed over, as a copy under way is often named.

    Args:
        folder: to watch.
        modalities: of DICOM series that are wanted, such as CT.
        description: what SeriesDescription has to match somewhere, in any case; None: any.
    """

    def __init__(self, folder: Path, modalities: Sequence[str], description: re.Pattern[str] | None = None) -> None:
        self.folder, self.modalities, self.description = folder.absolute(), set(modalities), description
        self.unreadable = 0  # files that are DICOM by their first bytes and can't be read
        self._headers: dict[Path, tuple[tuple[int, int], Header | None]] = {}

    def find(self) -> Iterator[Series]:
        """Yield what lies in the folder now, in the order of paths."""
        now, seen = time.time(), {}
        groups: dict[str, dict[str, tuple[Path, float, int | None]]] = {}
        self.unreadable = 0
        for path in self._files():
            try:
                stat = path.stat()
            except OSError:  # gone since
                continue
            changed = max(stat.st_mtime, stat.st_ctime)  # a copy may keep the one, not the other
            if path.name.lower().endswith(SINGLE):
                name = path.relative_to(self.folder).as_posix()
                yield Series(name, stat.st_mtime_ns, now - changed, files=(path,))
                continue
            signature = (stat.st_size, stat.st_mtime_ns)
            known = self._headers.get(path)
            header = known[1] if known is not None and known[0] == signature else read_header(path)
            seen[path] = (signature, header)
            if header is None:
                continue
            self.unreadable += header.modality == UNREADABLE
            if self._wants(header):  # a file that lies there twice is one instance
                groups.setdefault(header.series, {}).setdefault(header.instance, (path, changed, header.number))
        self._headers = seen
        for name, instances in groups.items():
            files, times, numbers = zip(*instances.values(), strict=True)
            yield Series(name, len(files), now - max(times), numbers[0], files)

    def bring(self, series: Series, work: Path) -> Path:
        """Lay a series out under names that tell nothing, by links, or copies where there can't be any.

        Returns:
            a folder of DICOM files, or the one file, in `work`, named by the series' key.
        """
        if series.files[0].name.lower().endswith(SINGLE):
            name = series.files[0].name.lower()
            ending = next(ending for ending in SINGLE if name.endswith(ending))
            return link(series.files[0], work / f"{series.key}{ending}")
        folder = work / series.key
        folder.mkdir()
        for number, file in enumerate(sorted(series.files), start=1):
            link(file, folder / f"{number:05d}.dcm")
        return folder

    def _wants(self, header: Header) -> bool:
        fits = self.description is None or self.description.search(header.description)
        return header.modality in self.modalities and bool(fits)

    def _files(self) -> Iterator[Path]:
        for place, below, names in os.walk(self.folder):
            below[:] = sorted(visible(below))
            yield from (Path(place, name) for name in sorted(visible(names)))


def read_header(path: Path) -> Header | None:
    """Return what a DICOM file says of itself, or None for another file."""
    if not is_dicom(path):
        return None
    from pydicom import dcmread

    broken = Header("", "", UNREADABLE)
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        if found.file_meta.get("MediaStorageSOPClassUID") == DICOMDIR:
            return None
        values = [found.get(tag) for tag in TAGS]
        name, instance, modality, description, number = ("" if value is None else str(value) for value in values)
    except Exception:  # pydicom raises many kinds for a broken file
        return broken
    return Header(name, instance, modality, description, whole(number)) if name and instance else broken


def whole(value: object) -> int | None:
    """Return a number as whole, None where there is none."""
    try:
        return int(str(value))
    except ValueError:
        return None


def link(source: Path, target: Path) -> Path:
    """Let `target` be the file at `source`."""
    try:
        target.symlink_to(source.absolute())
    except OSError:  # no links here: FAT, some network shares
        shutil.copyfile(source, target)
    return target


def visible(names: Iterable[str]) -> list[str]:
    """Return the names that don't begin with a dot."""
    return [name for name in names if not name.startswith(".")]
