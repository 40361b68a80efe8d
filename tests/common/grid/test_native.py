from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd, ResizeWithPadOrCropd, Spacingd

from common.grid import native as native_grid
from common.grid.native import ToNativeGridd, largest, matching_axes, sample_probabilities, winners

SHEAR = np.array([[1.0, 0, 0.3], [0, 1, 0], [0, 0, 1]])


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


GEOMETRIES = {
    "RAS": np.diag([1.0, 1.5, 2.0]),
    "LPS": np.diag([-1.0, -1.5, 2.0]),
    "PSR": np.array([[0, 0, 1.2], [-1.5, 0, 0], [0, 2.0, 0]]),
    "oblique": rotation(15) @ np.diag([1.0, -1.5, 2.0]),
}
GRID = Compose(
    [
        Orientationd(keys="image", axcodes="RAS", labels=None),
        Spacingd(keys="image", pixdim=[2.0, 2.5, 3.0], mode="bilinear", padding_mode="border"),
        ResizeWithPadOrCropd(keys="image", spatial_size=[16, 16, 16], mode="edge"),
    ]
)


def native_image(linear: np.ndarray, size=(21, 18, 15)) -> MetaTensor:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, (7.0, -30.0, 11.0)
    x = torch.rand(1, *size, generator=torch.Generator().manual_seed(0))
    return MetaTensor(x, affine=affine, meta={"original_affine": affine, "spatial_shape": np.array(size)})


def blobs(size=(16, 16, 16), classes: int = 3) -> torch.Tensor:
    logits = torch.randn(classes, *(n // 4 for n in size), generator=torch.Generator().manual_seed(1))
    logits = torch.nn.functional.interpolate(logits[None], size=size, mode="trilinear")[0]
    return torch.softmax(6 * logits, dim=0)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_equals_monais_invertd_where_both_are_defined(name):
    item = GRID({"image": native_image(GEOMETRIES[name])})
    pred = blobs()
    mine = ToNativeGridd("pred", [0, 1, 2], save_probabilities=True)({**item, "pred": pred})
    monai = Invertd("pred", transform=GRID, orig_keys="image", nearest_interp=False)({**item, "pred": MetaTensor(pred)})
    assert mine["probabilities"].shape[1:] == monai["pred"].shape[1:] == (21, 18, 15)
    inner = (slice(None), *[slice(3, -3)] * 3)  # at the edges Invertd repeats what it has, or zeros
    assert torch.allclose(mine["probabilities"][inner].as_tensor(), monai["pred"][inner].as_tensor().float(), atol=2e-3)
    assert np.allclose(mine["pred"].affine, item["image"].meta["original_affine"])


@pytest.mark.parametrize("name", GEOMETRIES)
def test_label_map_is_the_same_without_and_with_the_shortcut(name, monkeypatch):
    item = GRID({"image": native_image(GEOMETRIES[name])})
    pred = torch.zeros(2, 16, 16, 16)
    pred[1, 4:9, 6:8, 3:12] = 0.9
    pred[0] = 1 - pred[1]
    quick = ToNativeGridd("pred", [0, 5])({**item, "pred": pred})["pred"]
    monkeypatch.setattr(native_grid, "SLAB_VALUES", 500)  # many slabs
    whole = ToNativeGridd("pred", [0, 5], save_probabilities=True)({**item, "pred": pred})
    assert torch.equal(quick, whole["pred"]) and set(quick.unique().tolist()) == {0, 5}
    assert torch.allclose(whole["probabilities"].sum(0), torch.ones(21, 18, 15), atol=1e-5)


def test_a_temperature_changes_what_is_saved_and_not_the_label_map():
    item, pred = GRID({"image": native_image(GEOMETRIES["LPS"])}), blobs()
    wanted = {"save_probabilities": True, "save_uncertainty": True}
    as_it_is, softer = (
        ToNativeGridd("pred", [0, 1, 2], temperature=asked, **wanted)({**item, "pred": pred})
        for asked in (None, lambda: 2)
    )
    assert torch.equal(as_it_is["pred"], softer["pred"])
    logs = as_it_is["probabilities"].clamp_min(1e-7).log() / 2
    assert torch.allclose(softer["probabilities"], torch.softmax(logs, 0), atol=1e-5)
    inside = as_it_is["uncertainty"] > 0.01
    assert (softer["uncertainty"][inside] > as_it_is["uncertainty"][inside]).float().mean() > 0.9


def test_axis_by_axis_equals_all_axes_at_once():
    to_grid = torch.tensor([[0, 0.4, 0, -1.3], [-0.7, 0, 0, 15.2], [0, 0, 0.5, 0.1], [0, 0, 0, 1]], dtype=torch.float64)
    box = [slice(1, 20), slice(0, 30), slice(2, 25)]
    assert matching_axes(to_grid, 30) == [1, 0, 2]
    pred = blobs()
    both = sample_probabilities(pred, to_grid, box), native_grid._sample_oblique(pred, to_grid, box)
    assert torch.allclose(*both, atol=1e-4)


def test_sheared_scan_takes_the_general_way():
    item = GRID({"image": native_image(SHEAR @ np.diag([1.0, 1.5, 2.0]))})
    to_grid = torch.linalg.inv(item["image"].affine) @ torch.as_tensor(item["image"].meta["original_affine"])
    assert matching_axes(to_grid, 21) is None
    label = ToNativeGridd("pred", [0, 1, 2])({**item, "pred": blobs()})["pred"]
    whole = ToNativeGridd("pred", [0, 1, 2], save_uncertainty=True)({**item, "pred": blobs()})
    assert torch.equal(label, whole["pred"]) and whole["uncertainty"].min() >= 0 and whole["uncertainty"].max() <= 1


def test_beyond_the_grid_is_background_and_its_border_voxel_counts_in_full():
    image = native_image(np.eye(3), size=(40, 16, 16))
    grid_affine = image.affine.clone()
    grid_affine[0, 3] += 12.0  # the grid covers voxels 12 to 27 of the first axis
    grid = MetaTensor(image[:, :16].as_tensor(), meta={**image.meta, "affine": grid_affine})
    pred = torch.stack([torch.zeros(16, 16, 16), torch.ones(16, 16, 16)])
    label = ToNativeGridd("pred", [0, 1])({"image": grid, "pred": pred})["pred"]
    assert label[0, 12:28].all() and not label[0, :12].any() and not label[0, 28:].any()


@pytest.mark.parametrize(("values", "kind"), [([0, 1, 255], torch.uint8), ([0, 2, 300], torch.int32)])
def test_class_becomes_label_value(values, kind):
    item = GRID({"image": native_image(np.diag([1.0, 1.5, 2.0]))})
    label = ToNativeGridd("pred", values)({**item, "pred": blobs()})["pred"]
    assert label.dtype == kind and set(label.unique().tolist()) == set(values)


def test_nothing_found_is_all_background():
    item = GRID({"image": native_image(np.eye(3))})
    pred = torch.zeros(2, 16, 16, 16)
    pred[0] = 1
    assert not list(winners(pred, torch.eye(4, dtype=torch.float64), (20, 20, 20), torch.arange(2)))
    assert not ToNativeGridd("pred", [0, 1])({**item, "pred": pred})["pred"].any()


def test_largest_is_the_first_of_equals():
    probabilities = torch.randint(0, 4, (300, 40), generator=torch.Generator().manual_seed(0)).float()
    for some in (probabilities, probabilities[:5]):
        assert np.array_equal(largest(some), some.numpy().argmax(0))


@pytest.mark.parametrize("step", [0.1, 0.7, 1.0, 1.6])
@pytest.mark.parametrize("edge", [10, 64])
def test_lines_equal_what_is_interpolated_at_every_voxel(monkeypatch, edge, step):
    """Many classes that differ little, so that a third lies between two; grids coarser and finer than the scan."""
    to_grid = torch.zeros(4, 4, dtype=torch.float64)
    to_grid[1, 0], to_grid[0, 1], to_grid[2, 2], to_grid[3, 3] = -step, 0.2, 0.15, 1.0
    to_grid[:3, 3] = torch.tensor([-3.0, 17.0, -0.9])  # beyond the grid on both sides
    pred, size = torch.rand(9, 16, 18, 16, generator=torch.Generator().manual_seed(2)), (190, 100, 120)
    pred /= pred.sum(0)
    whole = sample_probabilities(pred, to_grid, [slice(0, n) for n in size]).argmax(0)
    monkeypatch.setattr(native_grid, "BLOCK", (edge, edge, edge))
    label = torch.zeros(size, dtype=torch.uint8)
    for box, found in winners(pred, to_grid, size, torch.arange(9, dtype=torch.uint8)):
        label[box] = found
    # between two equals the last digit decides
    assert (label != whole).double().mean() < 1e-5 and len(label.unique()) == 9


def test_the_first_of_equals_wins_along_a_line():
    """Two classes cross at voxels of the scan, in either order."""
    pred = torch.zeros(3, 4, 2, 2)
    pred[0], pred[1, 1:3] = 0.25, 0.75
    pred[2, 3] = 0.75
    to_grid = torch.diag(torch.tensor([0.25, 1.0, 1.0, 1.0], dtype=torch.float64))
    ((_, label),) = winners(pred, to_grid, (13, 2, 2), torch.arange(3, dtype=torch.uint8))
    # 0.25 is crossed by 0.75 x at x = 1/3; 0.75 (1 - x) = 0.75 x at x = 1/2, where class 1 is the first
    assert label[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2]


def test_blocks_leave_out_what_can_not_be_the_largest(monkeypatch):
    """Six classes in smooth maps, in blocks of a few voxels: some hold one class, most not all."""
    to_grid = torch.diag(torch.tensor([-0.1, 0.2, 0.15, 1.0], dtype=torch.float64))
    to_grid[:3, 3] = torch.tensor([17.0, -3.0, -0.9])
    pred = torch.softmax(8 * blobs(classes=6).log(), 0)
    monkeypatch.setattr(native_grid, "BLOCK", (10, 10, 10))
    used, lines = [], native_grid.label_lines
    monkeypatch.setattr(native_grid, "label_lines", lambda maps, *rest: used.append(len(maps)) or lines(maps, *rest))
    found = [found for _, found in winners(pred, to_grid, (190, 100, 120), torch.arange(6, dtype=torch.uint8))]
    assert sum(not one.ndim for one in found) > 30 and np.mean(used) < 5
