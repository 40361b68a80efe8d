from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRangePercentilesd

from common.grid import to_grid
from common.grid.grid import Grid
from common.grid.intensity import ImageToGridd, measure_intensity
from common.grid.preprocessing import ImagePreprocessing
from common.volumes.read import read_volume

DATA = Path(__file__).parents[4] / "shared" / "data"
AFFINE = torch.diag(torch.tensor([1.0, 1, 2, 1], dtype=torch.float64))


def scan(shape=(24, 22, 20), seed=0):
    """Return a bright ball in noise, HU-like."""
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    ball = x**2 + y**2 + z**2 < 0.5
    return (np.where(ball, 60, -900) + np.random.default_rng(seed).normal(0, 30, shape)).round().astype(np.float32)


def scale(volume):
    values = torch.from_numpy(volume)[None]
    return measure_intensity(values, (1, 99))(values.clone(), (slice(None),) * 4)


def monais(volume):
    transform = ScaleIntensityRangePercentilesd("image", 1, 99, b_min=0.0, b_max=1.0, clip=True)
    return transform({"image": MetaTensor(torch.from_numpy(volume)[None], affine=AFFINE)})["image"].as_tensor()


def frame(volume, value, share=0.3):
    widths = [int(share * n) for n in volume.shape]
    inside = tuple(slice(width, width + n) for width, n in zip(widths, volume.shape, strict=True))
    return np.pad(volume, [(width, width) for width in widths], constant_values=value), inside


def test_without_padding_it_is_monais_transform_to_the_last_bit():
    large = scan((104, 101, 96))  # over a million voxels MONAI takes another way
    for volume in (scan(), large, np.zeros((4, 4, 4), np.float32)):
        ours, wanted = scale(volume), monais(volume)
        assert torch.equal(ours, wanted) and ours.dtype == wanted.dtype


@pytest.mark.parametrize("value", [-3024, -32768, -901, 0, 40, 3071])
def test_a_frame_changes_no_intensity_inside_it_and_is_black(value):
    volume = scan()
    framed, inside = frame(volume, value)
    found = scale(framed)
    assert abs(found[0].numpy()[inside] - scale(volume)[0].numpy()).max() < 1e-3
    outside = np.ones(framed.shape, bool)
    outside[inside] = False
    assert not found[0].numpy()[outside].any()
    if value == -3024:  # what the whole volume's percentiles did: organs and air look alike
        assert abs(monais(framed)[0].numpy()[inside] - scale(volume)[0].numpy()).max() > 0.6


def test_a_round_field_of_view_and_a_blank_slice_change_nothing_inside():
    volume = scan()
    x, y = np.ogrid[-1:1:24j, -1:1:22j]
    beyond = np.broadcast_to((x**2 + y**2 > 1.6)[..., None], volume.shape)
    volume = volume[:, :, :-1].copy()
    padded = np.where(beyond[..., :-1], -2048, volume)
    found = scale(np.concatenate([padded, np.full((24, 22, 1), -2048)], axis=2, dtype=np.float32))
    inside = ~beyond[..., :-1]
    low, high = np.percentile(volume[inside], (1, 99))
    wanted = ((volume[inside] - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(found[0, ..., :-1].numpy()[inside], wanted, atol=1e-5)
    assert not found[0, ..., -1].any()


def test_a_phantom_of_two_values_keeps_its_contrast():
    phantom = np.zeros((10, 10, 10), np.float32)
    phantom[3:7, 3:7, 3:7] = 5
    assert torch.equal(scale(phantom), monais(phantom))
    assert set(scale(phantom).unique().tolist()) == {0, 1}


def test_the_network_sees_the_same_with_a_frame(tmp_path):
    import nibabel

    volume = scan((40, 40, 20))
    framed, inside = frame(volume, -3024, 0.4)  # 16 and 8 voxels: the same voxels of the grid
    seen = []
    for name, array in (("a", volume), ("b", framed)):
        nibabel.save(nibabel.Nifti1Image(array, AFFINE.numpy()), tmp_path / f"{name}.nii")
        grid = Grid(tuple(n // 2 for n in array.shape), (2.0, 2.0, 4.0), (0, 1))
        seen.append(ImagePreprocessing(grid)({"image": str(tmp_path / f"{name}.nii")})["image"][0].numpy())
    away = tuple(slice(2, n // 2 - 2) for n in volume.shape)  # from the seam, over which smoothing reaches
    inner = seen[1][tuple(slice(part.start // 2, part.stop // 2) for part in inside)]
    assert abs(inner[away] - seen[0][away]).max() < 1e-3


@pytest.mark.parametrize("name", ["hippocampus", "la2018", "btcv", "chaos_mr"])
def test_real_scans_in_a_frame(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not here")
    first = json.loads((DATA / name / "dataset.json").read_text())["training"][0]["image"]
    volume = read_volume(DATA / name / first).array.astype(np.float32)[::2, ::2]
    for value in (-3024, 0):
        framed, inside = frame(volume, value)
        assert abs(scale(framed)[0].numpy()[inside] - scale(volume)[0].numpy()).max() < 2e-3


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("spatial_size", [(7, 8, 9), (40, 30, 8)])
def test_what_becomes_of_a_scan_knows_no_order_in_memory(monkeypatch, order, spatial_size):
    monkeypatch.setattr(to_grid, "SLAB_VOXELS", 3000)
    framed, _ = frame(scan(), 40)  # of a value that tissue has, so that what is black is looked up voxel by voxel
    wanted = torch.from_numpy(framed)[None]
    given = wanted.permute(0, *(axis + 1 for axis in order)).contiguous()
    given = given.permute(0, *(order.index(axis) + 1 for axis in range(3)))
    transform = ImageToGridd("image", Grid(spatial_size, (4.0, 3.0, 5.0), (0, 1)))
    found = [transform({"image": MetaTensor(image, affine=AFFINE)})["image"] for image in (wanted, given)]
    assert given.shape == wanted.shape and found[1].is_contiguous()
    assert torch.allclose(found[0].as_tensor(), found[1].as_tensor(), atol=1e-5) and found[0].std() > 0.05
