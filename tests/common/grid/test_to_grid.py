"""What goes to the grid axis by axis is what MONAI's transforms make of it, for a hundredth of the memory and time."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ResizeWithPadOrCrop, Spacing

from common.grid.grid import make_grid
from common.grid.to_grid import BLUR, LabelToGridd, ToGridd, between_grids, class_boxes, is_sheared
from common.imaging.morphology import gaussian_smooth
from common.tensors import known_share

OBLIQUE = torch.tensor([[1.94, -0.26, 0.13, 5], [0.30, 1.70, -0.52, -7], [-0.02, 0.31, 2.44, 9], [0, 0, 0, 1]]).double()
AFFINES = {
    "straight": torch.diag(torch.tensor([2.0, 1.5, 5.0, 1.0])).double(),
    # the same directions, made orthogonal
    "oblique": torch.block_diag(torch.linalg.qr(OBLIQUE[:3, :3]).Q * torch.tensor([-1.9, -1.7, 2.5]), torch.eye(1)),
}
GRIDS = {
    "coarser and cropped": ((8, 8, 8), (5, 6, 7)),
    "coarser and padded": ((16, 24, 32), (5, 6, 7)),
    "finer": ((40, 40, 40), (1, 1, 2)),
    "odd": ((7, 9, 11), (3.3, 1.1, 5)),
}


def monais(image: MetaTensor, grid) -> MetaTensor:
    """A Gaussian, Spacing and ResizeWithPadOrCrop, at the scan's size."""
    ratios = [new / old for new, old in zip(grid.pixdim, image.pixdim.tolist(), strict=True)]
    sigma = [BLUR * max(ratio**2 - 1, 0) ** 0.5 for ratio in ratios]
    smooth = MetaTensor(gaussian_smooth(image.as_tensor(), sigma), affine=image.affine)
    spaced = Spacing(grid.pixdim, mode="bilinear", padding_mode="border")(smooth)
    return ResizeWithPadOrCrop(grid.spatial_size, mode="edge")(spaced)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_an_image_is_what_monai_makes_of_it(grid, affine):
    grid = make_grid(*grid, (0, 1))
    image = MetaTensor(torch.rand((2, 19, 24, 13), generator=torch.manual_seed(0)), affine=affine)
    ours, theirs = ToGridd("image", grid)({"image": image})["image"], monais(image, grid)
    assert ours.shape == (2, *grid.spatial_size) and ours.dtype == torch.float32
    torch.testing.assert_close(ours.as_tensor(), theirs.as_tensor(), rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.affine, theirs.affine, rtol=0, atol=1e-9)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_label_map_is_what_monai_makes_of_its_classes(grid, affine):
    grid = make_grid(*grid, (0, 3, 7))
    label = torch.zeros((1, 19, 24, 13))
    label[0, 3:9, 2:20, 4:10], label[0, 9:12, 5:8, 0:13] = 3, 7
    ours = LabelToGridd("label", grid)({"label": MetaTensor(label, affine=affine)})["label"]
    classes = torch.cat([(label == value).float() for value in grid.label_values])
    theirs = monais(MetaTensor(classes, affine=affine), grid)
    scanned = theirs.as_tensor() * known_share(ours.as_tensor(), 0)
    torch.testing.assert_close(ours.as_tensor(), scanned, rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.affine, theirs.affine, rtol=0, atol=1e-9)


def test_beyond_the_scan_no_class_is_known():
    """Padding is what MONAI's crop or pad adds to what Spacing makes of the scan."""
    label = MetaTensor(torch.ones((1, 19, 24, 13)), affine=AFFINES["straight"])
    shares = LabelToGridd("label", make_grid((16, 6, 16), (5, 6, 5), (0, 1)))({"label": label})["label"].as_tensor()
    assert shares[1, 4:12, :, 1:14].min() == 1  # 8 voxels of 5 mm span 19 of 2 mm
    assert shares.sum() == 8 * 6 * 13


def test_a_class_that_is_not_there_takes_nothing_from_the_background():
    label = MetaTensor(torch.zeros((1, 8, 8, 8)), affine=torch.eye(4))
    shares = LabelToGridd("label", make_grid((4, 4, 4), (2, 2, 2), (0, 1, 2)))({"label": label})["label"]
    assert (shares[0] == 1).all() and (shares[1:] == 0).all()


def test_stripes_finer_than_the_grid_are_averaged():
    image = torch.zeros(1, 32, 32, 32)
    image[:, ::2] = 1.0
    grid = make_grid((8, 8, 8), (4, 4, 4), (0, 1))
    smooth = ToGridd("image", grid)({"image": MetaTensor(image)})["image"]
    assert (smooth[0, 2:-2, 2:-2, 2:-2] - 0.5).abs().max() < 0.05


def test_the_axes_of_a_tilted_gantry_become_right_angled_ones():
    tilted = AFFINES["straight"].clone()
    tilted[1, 2] = 1.5
    assert is_sheared(tilted) and not any(map(is_sheared, AFFINES.values()))
    grid = make_grid((12, 14, 10), (4, 4, 6), (0, 1))
    image = MetaTensor(torch.rand((1, 19, 24, 13), generator=torch.manual_seed(0)), affine=tilted)
    ours, theirs = ToGridd("image", grid)({"image": image})["image"], monais(image, grid)
    torch.testing.assert_close(ours.as_tensor(), theirs.as_tensor(), rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.affine, theirs.affine)
    assert not is_sheared(ours.affine)


def test_other_entries_and_metadata_are_left_alone():
    image = MetaTensor(torch.rand(1, 6, 6, 6), meta={"filename_or_obj": "scan.nii.gz"})
    grid = make_grid((4, 4, 4), (2, 2, 2), (0, 1))
    changed = ToGridd("image", grid)({"image": image, "image_path": "/studies/scan.nii.gz"})
    assert changed["image_path"] == "/studies/scan.nii.gz" and image.shape == (1, 6, 6, 6)
    assert changed["image"].meta["filename_or_obj"] == "scan.nii.gz"
    with pytest.raises(KeyError):
        ToGridd("image", grid)({})
    assert LabelToGridd("label", grid, allow_missing_keys=True)({}) == {}


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_the_boxes_of_a_label_map_hold_all_of_each_value(kind):
    label = torch.zeros((5, 6, 7), dtype=kind)
    label[1, 2, 3] = label[3, 2, 6] = 4
    label[0, 0, 0] = 2
    one = slice(0, 1)
    assert class_boxes(label) == {4: (slice(1, 4), slice(2, 3), slice(3, 7)), 2: (one, one, one)}
    assert class_boxes(label.permute(2, 1, 0))[4] == (slice(3, 7), slice(2, 3), slice(1, 4))


@pytest.mark.slow
def test_a_whole_body_label_map_needs_little_more_than_itself():
    program = """
import resource, torch
from monai.data import MetaTensor
from common.grid.grid import make_grid
from common.grid.to_grid import LabelToGridd
label = torch.zeros((1, 512, 512, 300), dtype=torch.uint8)
for n in range(1, 14):
    label[0, 30 * n : 30 * n + 90, 100:300, 20 * n : 20 * n + 40] = n
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
before = peak()
grid = make_grid((48, 40, 48), (8, 9, 7), range(14))
LabelToGridd("label", grid)({"label": MetaTensor(label, affine=torch.diag(torch.tensor([0.8, 0.8, 1, 1])))})
assert peak() - before < 0.6, peak() - before  # GB; a one-hot of it has 4.4, the smoothing of that asks for 140
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@pytest.mark.parametrize("back", [False, True])
def test_maps_of_one_grid_come_to_another_of_the_same_scan(back):
    """A ramp along every axis says where a voxel lies, whatever the spacing; ends stay what they are."""
    fine = torch.diag(torch.tensor([1.5, 1.0, 8.0, 1.0], dtype=torch.float64))
    fine[:3, 3] = torch.tensor([3.0, -20.0, 5.0])
    coarse = torch.diag(torch.tensor([6.0, 4.0, 8.0, 1.0], dtype=torch.float64))
    coarse[:3, 3] = torch.tensor([5.25, -18.5, 5.0])
    sizes = [(48, 40, 6), (12, 10, 6)]
    given, wanted = (coarse, fine) if back else (fine, coarse)
    size, other = sizes[::-1] if back else sizes

    def ramp(affine, size):
        steps = [affine[a, a] * torch.arange(n) + affine[a, 3] for a, n in enumerate(size)]
        return torch.stack(torch.meshgrid(*steps, indexing="ij")).float()

    found = between_grids(ramp(given, size), given, wanted, other)
    inner = (slice(None), slice(4, -4), slice(4, -4)) if back else (slice(None), slice(1, -1), slice(1, -1))
    assert torch.allclose(found[inner], ramp(wanted, other)[inner], atol=1e-3)
    assert found.shape == (3, *other) and float(found[2].max()) == 5.0 + 5 * 8
