"""Reading no more of a file than its header declares, so that a small file can't take all memory."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from .volume import Unreadable

CHUNK = 1 << 20  # bytes
SPARE = 1 << 20  # bytes behind the voxels that are passed over
MOST_DEFLATED = 1032  # bytes that one byte of a gzip file can become
BROKEN = (OSError, EOFError, zlib.error)


def require_memory(count: int) -> None:
    """Refuse voxels of more bytes than the machine has free, where it says so: it would end the process without a word.

    Raises:
        Unreadable: what is wanted and what is free.
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):  # no Linux
        return
    if count > free:
        raise Unreadable(f"its voxels take {count / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free")


def read_exactly(stream: Any, count: int) -> np.ndarray:
    """Return up to `count` bytes of a stream, uint8; memory is taken only as they come.

    Raises:
        Unreadable: no memory for so many.
    """
    require_memory(count)
    try:
        buffer = np.empty(count, np.uint8)
    except MemoryError as error:
        raise Unreadable(f"no memory for its {count / 1e9:.1f} GB of voxels; wanted a smaller volume") from error
    view, done = buffer.data, 0
    while done < count and (step := stream.readinto(view[done : done + CHUNK])):
        done += step
    return buffer[:done]


def skip(stream: Any, most: int) -> int:
    """Read on for up to `most` bytes without keeping them; return how many there were."""
    done = 0
    while done < most and (chunk := stream.read(min(CHUNK, most - done))):
        done += len(chunk)
    return done


def count_decompressed(stream: IO[bytes], encoding: str, most: int, packed: int | None = None) -> int:
    """Return how many bytes a compressed stream holds, counted up to a little over `most`; none is kept.

    Args:
        encoding: "gzip", "bzip2", or "zlib", which may be either header of deflate.
        packed: bytes of "zlib" that count; None: all there are.

    Raises:
        Unreadable: the stream is broken or cut off.
    """
    try:
        if encoding == "zlib":
            done = 0
            for size in _inflate(stream, packed):
                done += size
                if done > most:
                    break
            return done
        kind = bz2.BZ2File(stream) if encoding == "bzip2" else gzip.GzipFile(fileobj=stream)
        return skip(kind, most + 1)
    except BROKEN as error:
        raise Unreadable(f"not a readable image (broken {encoding} data: {error})") from error


def _inflate(stream: IO[bytes], packed: int | None) -> Iterator[int]:
    decoder, left, done = zlib.decompressobj(zlib.MAX_WBITS | 32), b"", 0
    while not decoder.eof:
        left = left or stream.read(CHUNK if packed is None else min(CHUNK, packed - done))
        if not left:
            raise EOFError("it ends too early")
        yield len(decoder.decompress(left, CHUNK))
        done += len(left) - len(decoder.unconsumed_tail)
        left = decoder.unconsumed_tail
