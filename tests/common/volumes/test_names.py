from __future__ import annotations

from common.volumes.names import case_id


def test_case_id():
    names = ["x/a.b.nii.gz", "a.NII", "a.nrrd", "a.mha", "series/", ".nii.gz"]
    assert [case_id(name) for name in names] == ["a.b", "a", "a", "a", "series", ".nii.gz"]
