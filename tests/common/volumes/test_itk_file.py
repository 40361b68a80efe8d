"""What is left to SimpleITK: the name chooses the format, and what can't be there is not read."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK

from common.volumes.read import read_geometry, read_volume
from common.volumes.volume import Unreadable

VOXELS = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(np.int16)


def test_geometry_is_that_of_the_volume(tmp_path):
    image = SimpleITK.GetImageFromArray(VOXELS.transpose(2, 1, 0))
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetDirection((0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    volume = read_volume(tmp_path / "a.nrrd")
    shape, affine = read_geometry(tmp_path / "a.nrrd")
    assert (volume.array == VOXELS).all() and tuple(shape) == VOXELS.shape and (affine == volume.affine).all()
    assert np.isnan(volume.forms).all()


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_another_format_under_the_name_is_not_looked_for(tmp_path, name):
    for other in ("b.nii", "b.png", "b.mha", "b.nrrd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS[:, :, 0].astype(np.uint8)), str(tmp_path / other))
        if (tmp_path / other).suffix != (tmp_path / name).suffix:
            (tmp_path / name).write_bytes((tmp_path / other).read_bytes())
            with pytest.raises(Unreadable, match="not a readable image"):
                read_volume(tmp_path / name)


def test_an_analyze_pair_that_holds_less_is_refused(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(VOXELS, None), tmp_path / "a.img")
    assert read_volume(tmp_path / "a.hdr").array.shape == VOXELS.shape
    header = bytearray((tmp_path / "a.hdr").read_bytes())
    header[42:48] = np.array([900, 900, 900], "<i2").tobytes()
    (tmp_path / "a.hdr").write_bytes(header)
    with pytest.raises(Unreadable, match="not a readable image"):
        read_geometry(tmp_path / "a.hdr")


def test_a_scan_that_spans_kilometres_is_refused(tmp_path):
    image = SimpleITK.GetImageFromArray(VOXELS)
    image.SetSpacing((1000.0, 1000.0, 1000.0))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    with pytest.raises(Unreadable, match="spans 7000 x 6000 x 5000 mm"):
        read_volume(tmp_path / "a.nrrd")
