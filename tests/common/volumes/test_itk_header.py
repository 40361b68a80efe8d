"""NRRD and MetaImage headers that name files elsewhere, or declare what isn't there."""

from __future__ import annotations

import bz2
import gzip
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from common.volumes.read import read_geometry, read_volume
from common.volumes.volume import Unreadable

VOXELS = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(7, 6, 5)  # as ITK has them: the last axis of the file first
RAW = VOXELS.tobytes()


def nrrd(encoding: str = "raw", sizes: str = "5 6 7", **fields: str) -> bytes:
    lines = [
        "NRRD0004",
        "# made by hand",
        "type: unsigned char",
        "dimension: 3",
        f"sizes: {sizes}",
        f"encoding: {encoding}",
    ]
    lines += ["my key:=some: value", *(f"{key.replace('_', ' ')}: {value}" for key, value in fields.items())]
    return ("\n".join(lines) + "\n").encode()


def meta_image(file: str = "LOCAL", sizes: str = "5 6 7", **fields: str) -> bytes:
    given = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "CompressedData": "False", "DimSize": sizes}
    given |= {"ElementType": "MET_UCHAR", **fields, "ElementDataFile": file}
    return "".join(f"{key} = {value}\n" for key, value in given.items()).encode()


def packed(voxels: bytes = RAW, sizes: str = "5 6 7", cut: int = 0) -> bytes:
    """Return a MetaImage with its voxels in it, packed."""
    content = zlib.compress(voxels)
    size = str(len(content))
    return meta_image(sizes=sizes, CompressedData="True", CompressedDataSize=size) + content[: len(content) - cut]


def names(count: int = 7) -> bytes:
    return "".join(f"s{number + 1:03d}.raw\n" for number in range(count)).encode()


def beside(folder: Path, header: bytes, before: int = 0) -> bytes:
    """Write the voxels into a file of their own; return the header."""
    (folder / "x.raw").write_bytes(bytes(before) + RAW)
    return header


def slices(folder: Path, count: int = 7, first: int = 1) -> None:
    for number in range(count):
        (folder / f"s{number + first:03d}.raw").write_bytes(VOXELS[number].tobytes())


SOUND = {
    "raw.nrrd": lambda folder: nrrd() + b"\n" + RAW,
    "packed.nrrd": lambda folder: nrrd("gzip") + b"\n" + gzip.compress(RAW),
    "text.nrrd": lambda folder: nrrd("ascii") + b"\n" + " ".join(map(str, RAW)).encode(),
    "file.nhdr": lambda folder: beside(folder, nrrd(data_file="x.raw")),
    "skipped.nhdr": lambda folder: beside(folder, nrrd(byte_skip="9", data_file="x.raw"), before=9),
    "last.nhdr": lambda folder: beside(folder, nrrd(byte_skip="-1", data_file="x.raw"), before=9),
    "pattern.nhdr": lambda folder: slices(folder) or nrrd(data_file="s%03d.raw 1 7 1"),
    "list.nhdr": lambda folder: slices(folder) or nrrd(data_file="LIST") + names(),
    "raw.mha": lambda folder: meta_image() + RAW,
    "packed.mha": lambda folder: packed(),
    "notes.mha": lambda folder: b"0008|0060 = CT\ndim[0] = 3\nno key\n" + meta_image() + RAW,
    "file.mhd": lambda folder: beside(folder, meta_image("x.raw")),
    "end.mhd": lambda folder: beside(folder, meta_image("x.raw", HeaderSize="-1"), before=9),
    "pattern.mhd": lambda folder: slices(folder) or meta_image("s%03d.raw 1 7 1"),
    "list.mhd": lambda folder: slices(folder) or meta_image("LIST") + names(),
    "list2d.mhd": lambda folder: slices(folder) or meta_image("LIST 2D") + names(),
}


@pytest.mark.parametrize("name", SOUND)
def test_whatever_is_sound_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(SOUND[name](tmp_path))
    assert (read_volume(tmp_path / name).array == VOXELS.transpose(2, 1, 0)).all()
    assert tuple(read_geometry(tmp_path / name)[0]) == (5, 6, 7)


def written_by_itk(path: Path, compress: bool) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(path), compress)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_what_itk_writes_is_read_and_cut_files_are_not(tmp_path, name, compress):
    path = written_by_itk(tmp_path / name, compress)
    assert (read_volume(path).array == VOXELS.transpose(2, 1, 0)).all()
    data = next((other for other in tmp_path.iterdir() if other != path), path)
    data.write_bytes(data.read_bytes()[:-12])
    for read in (read_volume, read_geometry):
        with pytest.raises(Unreadable, match="not a readable image"):
            read(path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.raw", "sub/../../outside.raw", "link.raw", "none.raw",
                                  "linked/outside.raw", "..\\outside.raw", "file:/etc/passwd"])  # fmt: skip
@pytest.mark.parametrize("make", [lambda name: ("a.nhdr", nrrd(sizes="2 2 2", data_file=name)),
                                  lambda name: ("a.mhd", meta_image(name, "2 2 2")),
                                  lambda name: ("a.nhdr", nrrd(sizes="2 2 2", data_file="LIST") + name.encode()),
                                  lambda name: ("a.mhd", meta_image("LIST", "2 2 2") + name.encode())])  # fmt: skip
def test_voxels_elsewhere_are_not_read(tmp_path, name, make):
    (tmp_path / "outside.raw").write_bytes(bytes(range(8)))
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "link.raw").symlink_to(tmp_path / "outside.raw")
    (folder / "linked").symlink_to(tmp_path)
    file, content = make(name)
    (folder / file).write_bytes(content)
    for read in (read_volume, read_geometry):
        with pytest.raises(Unreadable, match=r"its voxels are said to be in .*; wanted a file in data/"):
            read(folder / file)


def test_a_pattern_can_lead_out_too(tmp_path):
    for name, content in (
        ("a.nhdr", nrrd(data_file="../s%03d.raw 1 7 1")),
        ("a.mhd", meta_image("../s%03d.raw 1 7 1")),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Unreadable, match="wanted a file in"):
            read_volume(tmp_path / name)


def test_a_linked_header_may_lie_beside_a_link_to_its_voxels(tmp_path):
    archive, folder = tmp_path / "archive", tmp_path / "data"
    archive.mkdir()
    folder.mkdir()
    (archive / "x.raw").write_bytes(RAW)
    (archive / "a.nhdr").write_bytes(nrrd(data_file="x.raw"))
    for name in ("x.raw", "a.nhdr"):
        (folder / name).symlink_to(archive / name)
    assert read_volume(folder / "a.nhdr").array.shape == (5, 6, 7)
    shutil.rmtree(archive)


TWICE = nrrd(data_file="x.raw") + b"data file: /etc/passwd\n"


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.nrrd", nrrd(sizes="900 900 900") + b"\n" + RAW, "holds 210 bytes of voxels, the header declares 729000000"),
        ("a.nrrd", nrrd("gzip", "900 900 900") + b"\n" + gzip.compress(RAW), "holds 210 bytes of voxels"),
        ("a.nrrd", nrrd("gzip") + b"\n" + gzip.compress(bytes(8 << 20)), "holds more than the 210 bytes"),
        ("a.nrrd", nrrd("bzip2") + b"\n" + bz2.compress(bytes(8 << 20)), "holds more than the 210 bytes"),
        ("a.nrrd", nrrd("gzip", "2000 2000 2000") + b"\n" + gzip.compress(RAW), "8000 million voxels; wanted 800 at"),
        ("a.nrrd", nrrd("gzip") + b"\n" + gzip.compress(RAW)[:-9], "broken gzip data"),
        ("a.nrrd", nrrd(sizes="-5 6 7") + b"\n" + RAW, "the type 'unsigned char' and the sizes '-5 6 7'"),
        ("a.nrrd", nrrd()[:-1], "no empty line"),
        ("a.nrrd", nrrd("zip") + b"\n" + RAW, "zip"),
        ("a.nhdr", TWICE, "the line 'data file: /etc/passwd'"),
        ("a.mha", meta_image(sizes="900 900 900") + RAW, "holds 210 bytes of voxels, the header declares 729000000"),
        ("a.mha", packed(sizes="900 900 900"), "holds 210 bytes"),
        ("a.mha", packed(bytes(8 << 20)), "holds more than the 210 bytes"),
        ("a.mha", packed(cut=20), "broken zlib data: it ends too early"),
        ("a.mha", meta_image(CompressedData="True") + zlib.compress(RAW), "no CompressedDataSize"),
        ("a.mha", packed().replace(b"DataSize = 2", b"DataSize = 1"), "broken zlib data: it ends too early"),
        ("a.mhd", meta_image("LIST") + names(6), "6 names of files, wanted 7"),
        ("a.mhd", meta_image("LIST") + names()[:-1], "no line end behind its last file"),
        ("a.mhd", meta_image("s%03d.raw 1 3 1"), "3 names of files, wanted 7"),
        ("a.mhd", meta_image("s%s.raw 1 7 1"), "the file name 's%s.raw 1 7 1'"),
        ("a.mhd", meta_image("s%09999d.raw 1 7 1"), "the file name"),
        ("a.mhd", meta_image("s%03d.raw 1 999999999 1"), "which stands for 999999999 files"),
        ("a.mhd", b"ElementDataFile: /etc/passwd\n" + meta_image("x.raw"), "its header has"),
        ("a.mhd", b"my ElementDataFile = /etc/passwd\n" + meta_image("s001.raw"), "its header has the line"),
        ("a.mhd", b"dimsize = 2 2 2\n" + meta_image("s001.raw"), "its header has the line 'DimSize = 5 6 7'"),
    ],
)  # fmt: skip
def test_what_a_header_can_not_mean(tmp_path, name, content, line):
    (tmp_path / name).write_bytes(content)
    slices(tmp_path)
    with pytest.raises(Unreadable) as error:
        read_volume(tmp_path / name)
    assert line in str(error.value) and "\n" not in str(error.value)
