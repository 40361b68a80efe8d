"""A DICOMweb server of a few dozen lines: QIDO-RS for series and instances, WADO-RS of a series, STOW-RS."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pydicom

BOUNDARY = "part-of-the-answer"


class FakeDicomWeb(ThreadingHTTPServer):
    """Holds DICOM files by their UIDs.

    instances: SOPInstanceUID -> bytes of the file.
    asked: method and path of each request, and its Authorization.
    answers: of the requests to come, before they are looked at: status, content type and body.
    cut: bytes that are left off the end of each series that is brought.
    tells_counts: whether QIDO says how many instances a series has.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.instances: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.answers: list[tuple[int, str, bytes]] = []
        self.cut, self.tells_counts = 0, True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/dicom-web"

    def add(self, content: bytes) -> None:
        self.instances[str(header_of(content).SOPInstanceUID)] = content

    def add_folder(self, folder: Path, study: str = "1.2.9") -> None:
        """Take the files of a series; each instance gets a UID of its own, as they have in the world."""
        for file in sorted(folder.iterdir()):
            item = pydicom.dcmread(file)
            item.StudyInstanceUID, item.SOPInstanceUID = study, f"{item.SeriesInstanceUID}.{item.InstanceNumber}"
            item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
            written = io.BytesIO()
            item.save_as(written, enforce_file_format=True)
            self.add(written.getvalue())

    def of_modality(self, modality: str) -> list[pydicom.Dataset]:
        found = [header_of(content) for content in self.instances.values()]
        return [header for header in found if header.Modality == modality]


def header_of(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)


class _Handler(BaseHTTPRequestHandler):
    server: FakeDicomWeb

    def log_message(self, *arguments: object) -> None:
        return

    def do_GET(self) -> None:
        if self._answered_beforehand():
            return
        parts, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        words = parts.path.removeprefix("/dicom-web/").split("/")
        headers = {uid: header_of(content) for uid, content in self.server.instances.items()}
        if words == ["series"]:
            self._send_json(self._page(headers, query))
            return
        uids = sorted(uid for uid, one in headers.items() if one.SeriesInstanceUID == words[3])
        if words[4:] == ["instances"]:
            self._send_json([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids])
            return
        lines = [b"--%s\r\nContent-Type: application/dicom\r\n\r\n" % BOUNDARY.encode()]
        body = b"".join(lines[0] + self.server.instances[uid] + b"\r\n" for uid in uids)
        body += b"--%s--\r\n" % BOUNDARY.encode()
        body = body[: len(body) - self.server.cut]
        self._send(200, f'multipart/related; type="application/dicom"; boundary={BOUNDARY}', body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._answered_beforehand():
            return
        content = BytesParser().parsebytes(b"Content-Type: %s\r\n\r\n" % self.headers["Content-Type"].encode() + body)
        for part in content.get_payload():
            assert isinstance(part, Message) and part.get_content_type() == "application/dicom"
        boundary = content.get_boundary().encode()  # the parser takes bytes for text
        files = [piece.split(b"\r\n\r\n", 1)[1] for piece in body.split(b"--" + boundary)[1:-1]]
        for file in files:
            self.server.add(file.removesuffix(b"\r\n"))
        self._send_json({"00081199": {"vr": "SQ", "Value": []}})

    def _page(self, headers: dict[str, pydicom.Dataset], query: dict[str, list[str]]) -> list[dict]:
        wanted = [one for one in headers.values() if one.Modality in query["Modality"]]
        series = {str(one.SeriesInstanceUID): one for one in wanted}
        counts = {uid: sum(one.SeriesInstanceUID == uid for one in wanted) for uid in series}
        items = []
        for uid in sorted(series):
            values = {"0020000D": str(series[uid].StudyInstanceUID), "0020000E": uid, "00080060": series[uid].Modality}
            values |= {"0008103E": str(series[uid].get("SeriesDescription", ""))}
            values |= {"00200011": series[uid].get("SeriesNumber")} if "SeriesNumber" in series[uid] else {}
            values |= {"00201209": counts[uid]} if self.server.tells_counts else {}
            items.append({tag: {"vr": "UN", "Value": [value]} for tag, value in values.items()})
        begin = int(query.get("offset", ["0"])[0])
        return items[begin : begin + int(query["limit"][0])]

    def _answered_beforehand(self) -> bool:
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        if not self.server.answers:
            return False
        self._send(*self.server.answers.pop(0))
        return True

    def _send_json(self, content: object) -> None:
        self._send(200, "application/dicom+json", json.dumps(content, default=int).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if 300 <= status < 400:
            self.send_header("Location", f"{self.server.url}/series?elsewhere")
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def dicomweb_server() -> Iterator[FakeDicomWeb]:
    """Yield a server that runs on this machine until the block ends."""
    with FakeDicomWeb() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
