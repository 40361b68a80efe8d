"""The checks of `common.data.checks` on what other software writes: NRRD, MHA, DICOM series, NIfTI-2, big-endian."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK

from common.volumes.read import count_channels, read_channels, read_geometry, read_volume
from common.volumes.volume import Unreadable
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


def write(path, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1, 2, 1]) if affine is None else affine), path)
    return path


def refused(path, channels):
    with pytest.raises(Unreadable) as caught:
        read_channels(path, channels)
    return str(caught.value)


def test_channels_of_one_file_and_of_a_file_each_are_the_same(tmp_path):
    four = write(tmp_path / "b.nii.gz", np.stack([noise(seed=0), noise(seed=1), noise(seed=2)], -1))
    first, *_ = [write(tmp_path / f"a_000{number}.nii.gz", noise(seed=number)) for number in range(3)]
    for path in (four, first):
        found = read_channels(path, 3)
        for number, volume in enumerate(found):
            np.testing.assert_array_equal(volume.array, noise(seed=number))
        shape, affine = read_geometry(path)
        assert shape == SHAPE and all(np.array_equal(volume.affine, affine) for volume in found)
    assert (count_channels(four), count_channels(first)) == (3, 1)
    assert len(read_channels(first, 1)) == 1 and len(read_channels(first, 2)) == 2


def test_another_number_of_channels_is_one_line(tmp_path):
    four = write(tmp_path / "b.nii.gz", np.stack([noise(seed=0), noise(seed=1)], -1))
    assert refused(four, 3) == "has 2 channels; wanted 3"
    assert refused(four, 1) == f"shape {(*SHAPE, 2)}; wanted 3 dimensions"
    first = write(tmp_path / "a_0000.nii.gz", noise())
    assert refused(first, 2) == "has no a_0001.nii.gz beside it; wanted 2 channels, a file each"
    second = write(tmp_path / "a_0001.nii.gz", noise(seed=1))
    wanted = "a NIfTI file of four dimensions, or files a_0000.nii.gz to a_0001.nii.gz"
    assert refused(second, 2) == f"has one channel; wanted 2: {wanted}"
    alone = write(tmp_path / "c.nii", noise())
    assert refused(alone, 2) == f"has one channel; wanted 2: {wanted.replace('a_', 'c_').replace('.nii.gz', '.nii')}"


def test_channels_that_lie_elsewhere_are_one_line(tmp_path):
    write(tmp_path / "a_0000.nii.gz", noise())
    for number, (array, affine, wanted) in enumerate(
        [
            (noise((8, 9, 6)), None, f"shape (8, 9, 6); wanted {SHAPE} as in a_0000.nii.gz"),
            (noise(), np.diag([1.0, 1, 3, 1]), "spacing 1, 1, 3 mm; wanted 1, 1, 2 mm as in a_0000.nii.gz"),
        ]
    ):
        second = write(tmp_path / "a_0001.nii.gz", array, affine)
        assert refused(tmp_path / "a_0000.nii.gz", 2) == f"its channel a_0001.nii.gz: {wanted}", number
        assert only(check(tmp_path, {"image": tmp_path / "a_0000.nii.gz"}, channels=2)).endswith(wanted)
        second.unlink()
