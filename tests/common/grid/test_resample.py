from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing, Spacingd

from common.grid.resample import AntiAliasd, ImageSpacingd
from common.imaging.morphology import gaussian_smooth


def test_anti_aliasing_stands_for_the_average_over_the_new_voxel():
    image = torch.zeros(1, 32, 32, 32)
    image[:, ::2] = 1.0  # finest stripes: mean one half
    plain = Spacing(pixdim=(4, 4, 4), padding_mode="border")(MetaTensor(image)).as_tensor()
    smooth = AntiAliasd("image", (4, 4, 4))({"image": MetaTensor(image)})["image"]
    smooth = Spacing(pixdim=(4, 4, 4), padding_mode="border")(smooth).as_tensor()
    inner = (0, slice(2, -2), slice(2, -2), slice(2, -2))
    assert (smooth[inner] - 0.5).abs().max() < 0.05 < (plain[inner] - 0.5).abs().max()


def test_anti_aliasing_leaves_finer_grids_and_the_metadata_alone():
    image = MetaTensor(
        torch.rand(1, 8, 8, 8), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])), meta={"filename_or_obj": "x"}
    )
    same = AntiAliasd("image", (2, 2, 1))({"image": image})["image"]
    assert torch.equal(same, image)
    changed = AntiAliasd("image", (2, 2, 6))({"image": image})["image"]
    assert not torch.equal(changed, image) and torch.equal(changed.affine, image.affine)
    assert changed.meta["filename_or_obj"] == "x"


def test_anti_aliasing_neither_darkens_the_border_nor_breaks_one_hot_labels():
    label = torch.nn.functional.one_hot(torch.randint(0, 3, (8, 8, 8)), 3).movedim(-1, 0).float()
    for image in (torch.ones(1, 8, 8, 8), label):
        changed = AntiAliasd("image", (5, 5, 5))({"image": MetaTensor(image)})["image"].as_tensor()
        torch.testing.assert_close(changed.sum(0), torch.ones(8, 8, 8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [1.5, [1.5, 1.5, 1.5], [2.0, 1.0, 0.0]])
def test_gaussian_smooth_has_the_deviation_it_is_told(sigma):
    maps = torch.zeros(2, 21, 21, 21)
    maps[:, 10, 10, 10] = torch.tensor([1.0, 3.0])
    smooth = gaussian_smooth(maps, sigma)
    offsets = torch.arange(21.0) - 10
    torch.testing.assert_close(smooth.sum((1, 2, 3)), torch.tensor([1.0, 3.0]))
    for axis, wanted in enumerate([sigma] * 3 if isinstance(sigma, float) else sigma):
        profile = smooth[0].sum([a for a in range(3) if a != axis])
        assert float((profile * offsets**2).sum()) ** 0.5 == pytest.approx(wanted, abs=0.05)


def test_only_the_coarser_axis_is_smoothed():
    image = torch.zeros(1, 9, 9, 9)
    image[0, 4, 4, 4] = 1.0
    changed = AntiAliasd("image", (1, 1, 4))({"image": MetaTensor(image)})["image"].as_tensor()
    assert changed[0, 3, 4, 4] < 1e-6 and changed[0, 4, 3, 4] < 1e-6 and changed[0, 4, 4, 3] > 0.05


def test_a_missing_key_is_an_error_unless_allowed():
    with pytest.raises(KeyError):
        AntiAliasd("image", (1, 1, 1))({})
    assert AntiAliasd("image", (1, 1, 1), allow_missing_keys=True)({}) == {}


def test_texts_beside_an_image_are_left_alone():
    meta = {"filename_or_obj": "scan.nii.gz"}
    item = {
        "image": MetaTensor(torch.rand(1, 6, 6, 6), meta=meta),
        "image_path": "/studies/scan.nii.gz",
        "device": "cpu",
    }
    changed = ImageSpacingd("image", (2, 2, 2))(item)
    assert changed["image"].shape == (1, 4, 4, 4) and changed["image_path"] == "/studies/scan.nii.gz"
    assert changed["device"] == "cpu"
    del item["image_path"]
    assert torch.equal(changed["image"].as_tensor(), Spacingd("image", (2, 2, 2))(item)["image"].as_tensor())
