"""What MONAI's transforms read is what was checked."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImaged

from common.errors import InputError
from common.volumes.image_reader import LoadImageVolumed, load_image

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])


@pytest.fixture
def scan(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_gives_what_monai_gives(scan):
    ours = LoadImageVolumed("image")({"image": str(scan)})["image"]
    monais = LoadImaged("image", ensure_channel_first=True)({"image": str(scan)})["image"]
    assert ours.dtype == monais.dtype and ours.shape == monais.shape == (1, 5, 6, 7)
    assert (ours.numpy() == monais.numpy()).all() and (ours.affine == monais.affine).all()
    for key in ("original_affine", "spatial_shape", "space", "filename_or_obj"):
        assert np.array_equal(ours.meta[key], monais.meta[key]), key


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint16, ">i2"])
def test_voxels_as_stored_are_the_same_and_were_not_turned(tmp_path, kind):
    voxels = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(kind)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE, dtype=voxels.dtype), tmp_path / "scan.nii")
    item = {"image": str(tmp_path / "scan.nii")}
    stored, turned = (LoadImageVolumed("image", as_stored=stored)(item)["image"] for stored in (True, False))
    assert stored.dtype == turned.dtype and np.array_equal(stored.numpy(), turned.numpy())
    assert stored.stride()[1:] == (1, 5, 30) and turned.stride()[1:] == (42, 7, 1)
    assert (stored.affine == turned.affine).all() and stored.meta.keys() == turned.meta.keys()


def test_a_refused_file_is_one_line_and_no_other_reader_is_tried(tmp_path):
    (tmp_path / "scan.mha").write_bytes(b"no image")
    for load in (load_image, lambda path: LoadImageVolumed("image")({"image": path})):
        with pytest.raises(InputError, match=r"scan\.mha: not a readable image"):
            load(str(tmp_path / "scan.mha"))


def test_clients_know_it_as_a_loader():
    assert isinstance(LoadImageVolumed("image"), LoadImaged)  # MONAI Label
    assert "LoadImage" in LoadImageVolumed.__name__  # MONAI Deploy
