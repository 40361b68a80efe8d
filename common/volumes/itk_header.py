"""What the text of an NRRD or MetaImage header says of its voxels: how many bytes, in which files, packed how.

It is read before SimpleITK sees the file, which takes memory for what is declared and opens whatever is named.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from .bounded import SPARE, count_decompressed, require_memory
from .volume import LARGEST_VOXELS, Unreadable, too_many

LONGEST_HEADER = 1 << 20  # bytes
MOST_FILES = 65536
NRRD, META_IMAGE = (".nrrd", ".nhdr"), (".mha", ".mhd")
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
             "ascii": "text", "text": "text", "txt": "text", "hex": "hex"}  # fmt: skip
NRRD_TYPES = ((1, r"((un)?signed )?char|uchar|u?int8(_t)?"),
              (2, r"((un)?signed )?short( int)?|ushort|u?int16(_t)?"),
              (4, r"((un)?signed )?int|uint|u?int32(_t)?|float"),
              (8, r"((un)?signed )?long ?long( int)?|ulonglong|u?int64(_t)?|double"))  # fmt: skip
META_TYPES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
              "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip
META_FIELDS = {"dimsize", "elementtype", "elementnumberofchannels", "headersize", "compresseddata",
               "compresseddatasize", "binarydata", "elementdatafile"}  # fmt: skip
PATTERN = re.compile(r"[^%]*%0?\d{0,3}[diu][^%]*")


@dataclass(frozen=True)
class Declared:
    """Voxels as a header declares them.

    Args:
        voxels: how many numbers there are.
        itemsize: bytes of each.
        encoding: raw, gzip, bzip2, zlib, text or hex.
        files: that hold them, in equal parts; they exist.
        start: byte of each file at which they begin; below 0: they end where the file does.
        skipped: bytes before them that are packed with them.
        packed: bytes of zlib that the header counts; None: all there are.
    """

    voxels: int
    itemsize: int
    encoding: str
    files: tuple[Path, ...]
    start: int = 0
    skipped: int = 0
    packed: int | None = None


def require_held(path: Path) -> None:
    """Refuse an NRRD or MetaImage file that holds fewer voxels than it declares, or whose voxels lie elsewhere.

    Raises:
        Unreadable: also a header that can't be understood.
    """
    try:
        declared = _read_nrrd(path) if path.name.lower().endswith(NRRD) else _read_meta_image(path)
    except (ValueError, KeyError) as error:
        raise Unreadable(f"not a readable image (its header has {error})") from error
    if declared.voxels > LARGEST_VOXELS:
        raise Unreadable(too_many(declared.voxels))
    require_memory(declared.voxels * declared.itemsize)
    each = math.ceil(declared.voxels / len(declared.files))
    wanted = {"text": 2 * each - 1, "hex": 2 * each * declared.itemsize}.get(
        declared.encoding, each * declared.itemsize
    )
    wanted += declared.skipped
    for file in declared.files:
        with open(file, "rb") as stream:
            if declared.encoding in ("gzip", "bzip2", "zlib"):
                stream.seek(max(declared.start, 0))
                held = count_decompressed(stream, declared.encoding, wanted + SPARE, declared.packed)
            else:
                held = file.stat().st_size - max(declared.start, 0)
        if held < wanted:
            raise Unreadable(
                f"not a readable image ({file.name} holds {held} bytes of voxels, the header declares {wanted})"
            )
        if declared.encoding not in ("raw", "text", "hex") and held > wanted + SPARE:
            raise Unreadable(f"{file.name} holds more than the {wanted} bytes that the header declares")


def inside(header: Path, name: str) -> Path:
    """Return the file that a header names, which has to lie in the header's own folder or below, links resolved.

    Raises:
        Unreadable: it leads elsewhere, or isn't there.
    """
    given = Path(name)
    wanted = f"wanted a file in {header.parent.name or 'its'}{'/' if header.parent.name else ' folder'}"
    if not name or "\0" in name or given.is_absolute() or ".." in given.parts or "\\" in name or ":" in name:
        raise Unreadable(f"its voxels are said to be in {name!r}; {wanted}")
    path = header.parent / given
    try:
        places = header.parent.resolve(), header.resolve().parent  # a link to a header may lie beside one to its voxels
        outside = not any(path.resolve().is_relative_to(place) for place in places)
    except (OSError, RuntimeError) as error:
        raise Unreadable(f"its voxels are said to be in {name!r}, no usable path; {wanted}") from error
    if outside:
        raise Unreadable(f"its voxels are said to be in {name!r}, a link that leads elsewhere; {wanted}")
    if not path.is_file():
        raise Unreadable(f"its voxels are said to be in {name!r}, which isn't there; {wanted}")
    return path


def _read_nrrd(path: Path) -> Declared:
    with open(path, "rb") as stream:
        lines = _lines(stream.read(LONGEST_HEADER))
        end = next((number for number, (line, _) in enumerate(lines) if not line.strip()), len(lines))
        if not lines or not lines[0][0].startswith("NRRD"):
            raise ValueError("no NRRD in its first line")
        fields: dict[str, str] = {}
        names: list[str] = []
        for number, (line, _) in enumerate(lines[1:end], start=1):
            key, colon, value = line.partition(":")
            if line.startswith("#") or value.startswith("="):  # a comment, or a key of somebody's own
                continue
            key = key.strip().lower().replace(" ", "")
            if not colon or key in fields:
                raise ValueError(f"the line {line[:60]!r}")
            fields[key] = value.strip()
            if key == "datafile" and fields[key].upper().startswith("LIST"):
                names, end = [text.strip() for text, _ in lines[number + 1 :] if text.strip()], len(lines)
                break
        sizes = [int(size) for size in fields["sizes"].split()]
        kind = " ".join(fields["type"].lower().split())
        itemsize = next((size for size, known in NRRD_TYPES if re.fullmatch(known, kind)), None)
        if itemsize is None or min(sizes) < 1:
            raise ValueError(f"the type {kind[:60]!r} and the sizes {fields['sizes'][:60]!r}")
        encoding = ENCODINGS[fields["encoding"].lower()]
        files: tuple[Path, ...] = (path,)
        start = 0
        if "datafile" in fields:
            files = tuple(inside(path, name) for name in names or _expand(fields["datafile"]))
        else:
            if end == len(lines):
                raise ValueError("no empty line at its end")
            start = lines[end][1]
        for _ in range(min(int(fields.get("lineskip", 0)), MOST_FILES)):
            with open(files[0], "rb") as data:
                data.seek(start)
                start += len(data.readline(LONGEST_HEADER))
    skipped = int(fields.get("byteskip", 0))
    return Declared(math.prod(sizes), itemsize, encoding, files, start, max(skipped, 0))


def _read_meta_image(path: Path) -> Declared:
    with open(path, "rb") as stream:
        lines = _lines(stream.read(LONGEST_HEADER))
    fields: dict[str, str] = {}
    files: tuple[Path, ...]
    end = 0
    for number, (line, after) in enumerate(lines):
        found = re.fullmatch(r"\s*([^=:]*?)\s*[=:]\s*(.*?)\s*", line)
        key = found[1].lower() if found else ""
        if key in fields or ("elementdatafile" in line.lower() and key != "elementdatafile"):
            raise ValueError(f"the line {line[:60]!r}")
        if key in META_FIELDS:  # there may be any others
            fields[key] = found[2]
        if key == "elementdatafile":
            rest, end = [text.strip() for text, _ in lines[number + 1 :] if text.strip()], after
            break
    sizes = [int(size) for size in fields["dimsize"].split()]
    itemsize = META_TYPES[fields["elementtype"].upper().removeprefix("MET_").removesuffix("_ARRAY")]
    voxels = math.prod(sizes) * int(fields.get("elementnumberofchannels", 1))
    if not sizes or min(sizes) < 1:
        raise ValueError(f"the sizes {fields['dimsize'][:60]!r}")
    name = fields["elementdatafile"]
    files, start = (path,), end
    if name.lower() != "local":
        listed = name.upper().split()
        names = rest if listed[:1] == ["LIST"] else _expand(name, sizes[-1])
        files, start = tuple(inside(path, each) for each in names), max(int(fields.get("headersize", 0)), 0)
        # ITK leaves the voxels of slices without a file as it finds them in memory
        each = int(listed[1].upper().removesuffix("D")) if len(listed) == 2 and names is rest else len(sizes) - 1
        if (names is rest or "%" in name) and len(files) != math.prod(sizes[each:]):
            raise ValueError(f"{len(files)} names of files, wanted {math.prod(sizes[each:])}")
        if names is rest and lines[-1][0]:  # and reads no name that no line end follows
            raise ValueError("no line end behind its last file")
    words = {key: fields.get(key, "").lower()[:1] in ("t", "y", "1") for key in ("compresseddata", "binarydata")}
    encoding = "raw" if words["binarydata"] or "binarydata" not in fields else "text"
    packed = int(fields["compresseddatasize"]) if "compresseddatasize" in fields else None
    if words["compresseddata"]:
        encoding = "zlib"
        if packed is None and files == (path,):
            raise ValueError("no CompressedDataSize")
    return Declared(voxels, itemsize, encoding, files, start, 0, packed)


def _lines(content: bytes) -> list[tuple[str, int]]:
    """Return the lines of a header, each with the byte that comes after it; what follows the header is among them."""
    lines, start = [], 0
    for found in re.finditer(rb"\r\n|\n|\r", content):
        lines.append((content[start : found.start()].decode("latin-1"), found.end()))
        start = found.end()
    return [*lines, (content[start:].decode("latin-1"), len(content))]


def _expand(name: str, last: int = 0) -> list[str]:
    """Return the names that `slice%03d.raw 1 20 1` stands for, or the one that is given."""
    if "%" not in name:
        return [name]
    pattern, *numbers = name.split()
    if not PATTERN.fullmatch(pattern):
        raise ValueError(f"the file name {name[:60]!r}")
    first, last, step = [*map(int, numbers), *[1, last, 1][len(numbers) :]][:3]
    found = range(first, last + (1 if step > 0 else -1), step)
    if not 0 < len(found) <= MOST_FILES:
        raise ValueError(f"the file name {name[:60]!r}, which stands for {len(found)} files")
    return [pattern % number for number in found]
