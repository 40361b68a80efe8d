"""A DICOMweb server as the source of series and the place of segmentations, by three requests of DICOM PS3.18.

QIDO-RS finds series, WADO-RS brings one, STOW-RS stores a segmentation. Standard library alone: dicomweb-client, which
has all services, isn't among the packages that are pinned here.
"""

from __future__ import annotations

import http.client
import json
import mmap
import re
import shutil
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from common.errors import InputError

from .folder import whole
from .series import Series

AUTHORIZATION = "DICOMWEB_AUTHORIZATION"  # environment variable: the whole header, such as "Basic dXNlcjpwYXNz"
PATIENCE = 60.0  # seconds without a byte
PAGE = 500  # series of an answer
LARGEST = 64 << 20  # bytes of an answer in JSON
STUDY, SERIES, MODALITY, DESCRIPTION = "0020000D", "0020000E", "00080060", "0008103E"
NUMBER, INSTANCES = "00200011", "00201209"
FAILED, REASON, DUPLICATE = "00081198", "00081197", 0x0111
JSON, DICOM = "application/dicom+json", "application/dicom"


class Unreachable(Exception):
    """A server gives no answer, or another one than was asked for; its text names no series."""


class DicomWebSource:
    """Ask a server for series of some modalities, bring one, and store what was found in it.

    Args:
        url: where its services begin, such as http://127.0.0.1:8042/dicom-web.
        modalities: that are wanted.
        description: what SeriesDescription has to match somewhere; None: any.
        since: first StudyDate that is asked for, YYYYMMDD; None: any.
        authorization: value of that header; None: none is sent.

    Raises:
        InputError: no http address, or one with a password in it, which would be seen in lists of processes.
    """

    def __init__(
        self,
        url: str,
        modalities: Sequence[str],
        description: re.Pattern[str] | None = None,
        since: str | None = None,
        authorization: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InputError(f"{url}: no address of a server; wanted one such as http://127.0.0.1:8042/dicom-web")
        if "@" in parts.netloc:
            raise InputError(f"a password stands in the address; wanted it in the environment, as {AUTHORIZATION}")
        self.url, self.modalities, self.description, self.since = url.rstrip("/"), modalities, description, since
        self._headers = {} if authorization is None else {"Authorization": authorization}
        self._opener = urllib.request.build_opener(_NoRedirect)
        self.unreadable = 0

    def find(self) -> Iterator[Series]:
        """Yield the series that the server has now.

        Raises:
            Unreachable: it gives no answer.
        """
        seen: set[str] = set()
        for modality in self.modalities:
            asked = {"Modality": modality, "limit": PAGE}
            asked |= {"StudyDate": f"{self.since}-"} if self.since else {}
            query = urlencode(asked) + "".join(f"&includefield={tag}" for tag in (DESCRIPTION, NUMBER, INSTANCES))
            offset = 0
            while page := self._ask(f"/series?{query}&offset={offset}"):
                new = [item for item in page if text(item, SERIES) not in seen]
                offset += len(page)
                if not new:  # a server that knows no offset begins anew each time
                    break
                for item in new:
                    seen.add(text(item, SERIES))
                    if text(item, MODALITY) == modality and self._fits(item):  # some pass over what they don't know
                        yield self._series(item)

    def bring(self, series: Series, work: Path) -> Path:
        """Bring all instances of a series into a folder in `work`, named by the series' key.

        Raises:
            Unreachable: the server gives no answer, or fewer instances than it has.
        """
        folder, whole_answer = work / series.key, work / "answer"
        folder.mkdir()
        accept = f'multipart/related; type="{DICOM}"; transfer-syntax=*'  # as stored, whatever compresses it
        with self._open(place_of(series.study, series.name), Accept=accept) as answer, whole_answer.open("wb") as file:
            try:
                shutil.copyfileobj(answer, file, 1 << 20)
            except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
                raise Unreachable(f"its answer ended early ({type(error).__name__})") from error
            kind = answer.headers
        for number, part in enumerate(parts_of(whole_answer, kind), start=1):
            (folder / f"{number:05d}.dcm").write_bytes(part)
        whole_answer.unlink()
        count = len(list(folder.iterdir()))
        if count < series.mark:
            raise Unreachable(f"{count} of {series.mark} instances came")
        return folder

    def store(self, file: Path) -> None:
        """Store a DICOM file; one that is there already counts as stored.

        Raises:
            Unreachable: no answer, or the server refuses the file.
        """
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
        body = head + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="{DICOM}"; boundary={boundary}'
        content = self._read_json("/studies", body, Accept=JSON, **{"Content-Type": kind})
        answers = content if isinstance(content, list) else [content]
        failed = [item for answer in answers for item in answer.get(FAILED, {}).get("Value", [])]
        reasons = [whole((item.get(REASON, {}).get("Value") or [""])[0]) for item in failed]
        if any(reason != DUPLICATE for reason in reasons):
            raise Unreachable(f"the segmentation was refused (reason {reasons[0]})")

    def _fits(self, item: dict[str, Any]) -> bool:
        return self.description is None or bool(self.description.search(text(item, DESCRIPTION)))

    def _series(self, item: dict[str, Any]) -> Series:
        study, name = text(item, STUDY), text(item, SERIES)
        # a server need not say how many instances there are: then they are counted
        count = whole(text(item, INSTANCES)) or len(self._ask(f"{place_of(study, name)}/instances"))
        return Series(name, count, number=whole(text(item, NUMBER)), study=study)

    def _ask(self, path: str) -> list[dict[str, Any]]:
        content = self._read_json(path, Accept=JSON)
        if not isinstance(content, list):
            raise Unreachable("its answer is no list of series; is the address that of DICOMweb?")
        return [item for item in content if isinstance(item, dict)]

    def _read_json(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        with self._open(path, body, **headers) as answer:
            try:
                said = answer.read(LARGEST + 1)
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"its answer ended early ({type(error).__name__})") from error
        try:
            return json.loads(said) if said.strip() else []
        except (ValueError, RecursionError) as error:
            raise Unreachable("its answer is no JSON; is the address that of DICOMweb?") from error

    def _open(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        asked = urllib.request.Request(self.url + path, body, {**self._headers, **headers})
        try:
            return self._opener.open(asked, timeout=PATIENCE)
        except urllib.error.HTTPError as error:
            error.close()
            raise Unreachable(f"it answers {error.code} {http.client.responses.get(error.code, '')}".strip()) from error
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or type(error.reason).__name__
            raise Unreachable(f"no answer ({reason})") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no answer ({type(error).__name__})") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A password would be sent to wherever a redirection leads."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


def place_of(study: str, series: str) -> str:
    """Return where a series lies below a server's address."""
    return f"/studies/{quote(study)}/series/{quote(series)}"


def text(item: dict[str, Any], tag: str) -> str:
    """Return the first value of an attribute in DICOM's JSON as a text, empty where there is none."""
    entry = item.get(tag)
    values = entry.get("Value") if isinstance(entry, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def parts_of(file: Path, headers: Message) -> Iterator[bytes]:
    """Yield the content of each part of a multipart answer, which may be larger than memory.

    Raises:
        Unreachable: it is no such answer, or was cut off.
    """
    boundary = headers.get_param("boundary")
    if headers.get_content_maintype() != "multipart" or not isinstance(boundary, str) or not file.stat().st_size:
        raise Unreachable("its answer holds no instances")
    line = b"--" + boundary.encode("latin-1", "replace")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as body:
        begin = 0 if body[: len(line)] == line else body.find(b"\r\n" + line)
        begin = begin + 2 if begin > 0 else begin
        while begin >= 0 and body[begin + len(line) : begin + len(line) + 2] != b"--":
            head_end, end = body.find(b"\r\n\r\n", begin), body.find(b"\r\n" + line, begin + len(line))
            if head_end < 0 or end < head_end:
                raise Unreachable("its answer was cut off")
            yield body[head_end + 4 : end]
            begin = end + 2
        if begin < 0:
            raise Unreachable("its answer holds no instances")
