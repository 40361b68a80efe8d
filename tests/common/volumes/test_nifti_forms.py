"""qform and sform: who is believed, when a line is due, and that they come out as they went in."""

from __future__ import annotations

import struct

import nibabel
import numpy as np
import pytest

from common.volumes.nifti_forms import NO_FORMS, describe_forms, forms_header, matching_forms
from common.volumes.read import read_volume

SFORM = np.array([[2.0, 0, 0, -20], [0, 2, 0, -30], [0, 0, 3, 5], [0, 0, 0, 1]])
MOVED = np.array([[2.0, 0, 0, -5], [0, 2, 0, -40], [0, 0, 3, 5], [0, 0, 0, 1]])
SHAPE = (10, 11, 12)


def volume(tmp_path, qform, qcode, sform, scode, unit="mm"):
    image = nibabel.Nifti1Image(np.arange(1320, dtype=np.int16).reshape(SHAPE), sform)
    image.set_qform(qform, 1)
    image.set_sform(sform, 1)
    image.header.set_xyzt_units(unit)
    content = bytearray(image.to_bytes())
    struct.pack_into("<hh", content, 252, qcode, scode)
    (tmp_path / "a.nii").write_bytes(content)
    return read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("qform", "qcode", "scode", "line"),
    [
        (SFORM, 1, 1, None),
        (SFORM, 1, 0, None),
        (MOVED, 0, 2, None),
        (SFORM + np.eye(4, k=3) * 0.4, 1, 1, None),  # a fifth of a voxel
        (MOVED, 1, 2, "its qform and sform are up to 18 mm apart; its sform was used, and the result has both"),
        (SFORM @ np.diag([-1, 1, 1, 1.0]), 1, 1, "its qform and sform are up to 36 mm apart; its sform"),
        (SFORM, 0, 0, "has neither a qform nor an sform, so that its sides are not known; read as LAS"),
    ],
)
def test_a_line_where_readers_differ(tmp_path, qform, qcode, scode, line):
    found = volume(tmp_path, qform, qcode, SFORM, scode)
    assert (found.affine == nibabel.load(tmp_path / "a.nii").affine).all()
    said = describe_forms(found.forms, SHAPE)
    assert said is None if line is None else said.startswith(line)


def test_the_distance_is_in_mm(tmp_path):
    scale = np.diag([1e3, 1e3, 1e3, 1.0])
    found = volume(tmp_path, scale @ MOVED, 1, scale @ SFORM, 2, unit="micron")
    assert describe_forms(found.forms, SHAPE).startswith("its qform and sform are up to 18 mm apart")


def test_a_broken_qform_is_said(tmp_path):
    found = volume(tmp_path, SFORM, 1, SFORM, 1)
    found.forms[4:7] = 0.9
    assert describe_forms(found.forms, SHAPE) == "its qform is broken; its sform was used"


def test_other_formats_have_none():
    assert forms_header(NO_FORMS, SHAPE) is None and describe_forms(NO_FORMS, SHAPE) is None


def test_forms_are_for_their_own_grid_alone(tmp_path):
    found = volume(tmp_path, MOVED, 1, SFORM, 2)
    assert matching_forms(found.forms, SFORM, SHAPE) is found.forms
    assert matching_forms(found.forms, MOVED, SHAPE) is None
    assert matching_forms(NO_FORMS, SFORM, SHAPE) is None and matching_forms(None, SFORM, SHAPE) is None
