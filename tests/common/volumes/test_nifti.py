"""NIfTI files as scanners, other software and people who mean harm write them."""

from __future__ import annotations

import gzip
import resource
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.volumes.nifti import read_nifti, read_nifti_geometry
from common.volumes.read import read_geometry, read_volume
from common.volumes.volume import LARGEST_VOXELS, Unreadable

ROOT = Path(__file__).resolve().parents[3]
AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
VOXELS = np.random.default_rng(0).integers(-500, 500, (5, 6, 7)).astype(np.int16)


def header(shape: tuple[int, ...], code: int = 4, bits: int = 16, offset: float = 352.0) -> bytes:
    """Return the first 352 bytes of a file that says it has this shape."""
    made = nibabel.Nifti1Header()
    made["dim"][: len(shape) + 1] = [len(shape), *shape]
    made["datatype"], made["bitpix"], made["vox_offset"], made["magic"] = code, bits, offset, b"n+1"
    made["pixdim"][1:4] = made["srow_x"][0] = made["srow_y"][1] = made["srow_z"][2] = made["sform_code"] = 1
    return made.binaryblock + bytes(4)


def written(path: Path, voxels: np.ndarray = VOXELS, **fields: float) -> Path:
    image = nibabel.Nifti1Image(voxels, AFFINE)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64, ">i2"])
@pytest.mark.parametrize("scale", [(1.0, 0.0), (0.5, 0.0), (2.0, -1024.0)])
def test_voxels_are_those_of_nibabel(tmp_path, name, kind, scale):
    kind = np.dtype(kind)
    image = nibabel.Nifti1Image(
        VOXELS.astype(kind), AFFINE, nibabel.Nifti1Header(endianness=">" if kind.str[0] == ">" else "<")
    )
    image.header.set_data_dtype(kind)
    image.header.set_slope_inter(*scale)
    nibabel.save(image, tmp_path / name)
    found, wanted = read_nifti(tmp_path / name), nibabel.load(tmp_path / name)
    array = np.asanyarray(wanted.dataobj)
    small = np.dtype(kind).kind in "iu" and np.dtype(kind).itemsize <= 2
    array = array.astype(np.float32) if small and array.dtype == np.float64 else array  # half the memory of a CT
    assert found.array.dtype == array.dtype and (found.array == array).all()
    assert (found.affine == wanted.affine).all()
    assert read_nifti_geometry(tmp_path / name)[0] == (5, 6, 7)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_slope_of_0_is_none(tmp_path, name):
    """The standard's word for voxels that are not scaled; taken as a factor, it would make all of them 0."""
    content = bytearray(written(tmp_path / "b.nii").read_bytes())
    struct.pack_into("<ff", content, 112, 0.0, 7.0)  # scl_slope, scl_inter
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert nibabel.Nifti1Header(bytes(content[:348]), check=False)["scl_slope"] == 0
    assert np.array_equal(read_volume(tmp_path / name).array, VOXELS)


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("mm", 1), ("micron", 1e3), ("unknown", 1)])
def test_units_become_mm(tmp_path, unit, factor, image_class):
    stored = np.diag([factor, factor, factor, 1.0]) @ AFFINE
    image = image_class(VOXELS, stored)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii.gz")
    for affine in (read_volume(tmp_path / "a.nii.gz").affine, read_geometry(tmp_path / "a.nii.gz")[1]):
        np.testing.assert_allclose(affine, AFFINE, rtol=1e-5)


@pytest.mark.parametrize(("unit", "spacing"), [("meter", 1.0), ("micron", 1.0), ("mm", 1000.0), ("mm", 1e-3)])
def test_an_extent_that_no_scan_has_is_named(tmp_path, unit, spacing):
    image = nibabel.Nifti1Image(VOXELS, np.diag([spacing, spacing, spacing, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    for read in (read_volume, read_geometry):
        with pytest.raises(Unreadable, match=r"spans .* mm; wanted 1 to 5000 mm: look at spacing and units"):
            read(tmp_path / "a.nii")


def test_a_large_ct_passes_the_limit():
    assert 1.5 * 512 * 512 * 2000 < LARGEST_VOXELS


BOMBS = {
    "nothing.nii": lambda: header((2000, 2000, 2000)),
    "less.nii": lambda: header((900, 900, 900), 64, 64) + bytes(1000),
    "less.nii.gz": lambda: gzip.compress(header((900, 900, 900), 64, 64)),
    "nifti2.nii": lambda: nibabel.Nifti2Image(np.zeros((1 << 15, 1, 1), np.uint8), None).header.binaryblock,
    "trailing.nii.gz": lambda: gzip.compress(header((9, 9, 9))) + 8 * gzip.compress(bytes(256 << 20), 1),
    "declared.nii.gz": lambda: gzip.compress(header((2048, 2048, 1024))) + 8 * gzip.compress(bytes(256 << 20), 1),
    "offset.nii.gz": lambda: gzip.compress(header((9, 9, 9), offset=2e9)) + 8 * gzip.compress(bytes(256 << 20), 1),
    "extension.nii.gz": lambda: (
        gzip.compress(header((9, 9, 9), offset=1e8)[:348] + b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 6))
        + 8 * gzip.compress(bytes(256 << 20), 1)
    ),
}

MEASURED = """
import resource, sys
from common.volumes.read import read_geometry, read_volume
from common.volumes.volume import Unreadable
import nibabel.volumeutils
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (read_geometry, read_volume):
    try:
        read(sys.argv[1])
    except Unreadable as error:
        said = error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said, sep="|")
"""


@pytest.mark.parametrize("name", BOMBS)
def test_no_memory_is_taken_for_what_is_only_declared(tmp_path, name):
    (tmp_path / name).write_bytes(BOMBS[name]())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURED, str(tmp_path / name)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30,) * 2),
    )
    assert done.returncode == 0, done.stderr
    kib, said = done.stdout.strip().split("|")
    assert int(kib) < 60 * 1024, said
    assert "wanted" in said or "declares" in said


def test_voxels_before_the_end_of_the_header_are_refused(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(header((9, 9, 9), offset=0.0) + bytes(2000))  # nibabel would read the header as voxels
    with pytest.raises(Unreadable, match=r"its voxels begin at byte 0; wanted 348"):
        read_volume(path)


def test_a_little_behind_the_voxels_does_no_harm(tmp_path):
    whole = gzip.decompress(written(tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "b.nii").write_bytes(whole + bytes(500))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole + bytes(500)))
    for name in ("b.nii", "b.nii.gz"):
        assert (read_volume(tmp_path / name).array == VOXELS).all()


@pytest.mark.parametrize("names", [("a.hdr", "a.img"), ("a.hdr.gz", "a.img.gz"), ("a.hdr", "a.img.gz")])
def test_a_pair_of_files_is_one_volume(tmp_path, names):
    image = nibabel.Nifti1Pair(VOXELS, AFFINE)
    image.set_qform(AFFINE + 3 * np.eye(4, k=3), 1)
    image.header.set_xyzt_units("mm")
    image.to_file_map(
        {key: nibabel.FileHolder(tmp_path / name) for key, name in zip(("header", "image"), names, strict=True)}
    )
    whole = nibabel.Nifti1Image(VOXELS, AFFINE, image.header)
    whole.set_qform(AFFINE + 3 * np.eye(4, k=3), 1)
    nibabel.save(whole, tmp_path / "b.nii")
    wanted = read_volume(tmp_path / "b.nii")
    for name in names:
        found = read_volume(tmp_path / name)
        assert (found.array == VOXELS).all() and (found.affine == wanted.affine).all()
        assert np.array_equal(found.forms, wanted.forms)
        assert tuple(read_geometry(tmp_path / name)[0]) == (5, 6, 7)


def test_voxels_of_a_pair_lie_beside_its_header(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(VOXELS, AFFINE), tmp_path / "a.img")
    (tmp_path / "a.img").rename(tmp_path / "outside.img")
    (tmp_path / "data").mkdir()
    (tmp_path / "a.hdr").rename(tmp_path / "data" / "a.hdr")
    with pytest.raises(Unreadable, match=r"its voxels are said to be in 'a\.img', which isn't there"):
        read_volume(tmp_path / "data" / "a.hdr")
    (tmp_path / "data" / "a.img").symlink_to(tmp_path / "outside.img")
    with pytest.raises(Unreadable, match="a link that leads elsewhere"):
        read_volume(tmp_path / "data" / "a.hdr")
    (tmp_path / "data" / "a.img").unlink()
    (tmp_path / "data" / "a.img").write_bytes(bytes(100))
    with pytest.raises(Unreadable, match=r"holds 100 bytes, its header declares 420"):
        read_geometry(tmp_path / "data" / "a.hdr")
