from __future__ import annotations

import numpy as np
import pytest

from common.data.nnunet import channel_kinds, has_hounsfield, named_channels
from support.data.dicom_series import write_series

VOXELS = np.zeros((4, 5, 3), np.int16)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"modality": {"0": "CT"}}, ["CT"]),
        ({"modality": {"1": "T2", "0": "T1", "10": "b", "2": "a"}}, ["T1", "T2", "a", "b"]),
        ({"channel_names": {"0": "CT"}, "modality": {"0": "MRI"}}, ["CT"]),
        ({"channel_names": ["T1", "FLAIR"]}, ["T1", "FLAIR"]),
        ({"modality": "MRI"}, ["MRI"]),
        ({"modality": {}}, []),
        ({}, []),
    ],
)
def test_names_of_the_channels(content, wanted):
    assert named_channels(content) == wanted


@pytest.mark.parametrize("name", ["CT", "ct", "CT (venous)", " CTA"])
def test_what_is_in_hounsfield_units(name):
    assert has_hounsfield(name)


@pytest.mark.parametrize("name", ["", "MRI", "PT", "CBCT", "T1", "synthetic MRI", "PET/CT"])
def test_what_is_not(name):
    assert not has_hounsfield(name)


def test_dicom_says_itself_where_the_datalist_does_not(tmp_path):
    first, second = (str(write_series(tmp_path / name, VOXELS, np.eye(4))) for name in "ab")
    assert channel_kinds({}, [first, second]) == ["CT"]
    assert channel_kinds({"modality": {"0": "MRI"}}, [first]) == ["MRI"]
    (tmp_path / "scan.nii.gz").write_bytes(b"never opened")
    assert channel_kinds({}, [first, str(tmp_path / "scan.nii.gz")]) == [""]
