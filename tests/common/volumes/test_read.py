"""The checks of `common.data.checks` on what other software writes: NRRD, MHA, DICOM series, NIfTI-2, big-endian."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK

from common.volumes.read import read_volume
from support.data.checked_volumes import SHAPE, check, mask, noise, only


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_itk_and_nibabel_agree_on_the_grid(tmp_path, name):
    image = SimpleITK.GetImageFromArray(noise().transpose(2, 1, 0))
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection((0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
    for file in (name, "a.nii.gz"):
        SimpleITK.WriteImage(image, str(tmp_path / file))
    found, wanted = read_volume(tmp_path / name), read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(found.array, wanted.array)
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-4)
    label = SimpleITK.GetImageFromArray(mask().transpose(2, 1, 0))
    label.CopyInformation(image)
    SimpleITK.WriteImage(label, str(tmp_path / "label.nii.gz"))
    assert check(tmp_path, {"case": "a", "image": tmp_path / name, "label": tmp_path / "label.nii.gz"}) == []


def test_dicom_folder(tmp_path):
    slices = (noise() * 100).astype(np.int16).transpose(2, 1, 0)
    series = tmp_path / "series"
    series.mkdir()
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, values in enumerate(slices):
        image = SimpleITK.GetImageFromArray(values[None])
        image.SetOrigin((0.0, 0.0, 2.0 * index))
        for tag, value in {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.3.{index}",
            "0008|0060": "CT",
            "0020|000e": "1.2.3",
            "0020|0032": f"0\\0\\{2 * index}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(index),
        }.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(series / f"{index}.dcm"))
        writer.Execute(image)
    assert read_volume(series).array.shape == SHAPE
    assert check(tmp_path, {"image": series}) == []
    (tmp_path / "nothing").mkdir()
    assert "nothing: not a readable DICOM series" in only(check(tmp_path, {"image": tmp_path / "nothing"}))


def test_nifti2_and_big_endian(tmp_path):
    nibabel.save(nibabel.Nifti2Image(noise(), np.eye(4)), tmp_path / "two.nii")
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(noise(seed=1).astype(">f4"), np.eye(4), header), tmp_path / "big.nii")
    assert check(tmp_path, {"image": tmp_path / "two.nii"}, {"image": tmp_path / "big.nii"}) == []
