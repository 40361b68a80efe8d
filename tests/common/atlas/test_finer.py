from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from common.atlas.finer import FinerScan, FinerScans, finer_affine, finer_grid, finer_velocity
from common.atlas.finer_labels import nearest
from common.atlas.labeller import AtlasLabeller
from common.atlas.propagation import propagate
from common.grid.grid import Grid, Level
from common.grid.preprocessing import ImagePreprocessing, LabelPreprocessing
from common.grid.to_grid import between_grids
from common.pseudo_labels.opinions import agreement
from common.registration.fields import integrate, total_ddf, voxel_grid

FINE = Level((16, 16, 16), (1.0, 1.0, 4.0))
GRID = Grid((16, 12, 14), (4.0, 6.0, 4.0), (0, 1), fine=FINE)


def test_voxels_are_half_as_large_and_no_finer_than_the_second_level():
    found = finer_grid(GRID)
    assert (found.spatial_size, found.pixdim, found.fine) == ((32, 24, 14), (2.0, 3.0, 4.0), None)
    near = finer_grid(replace(GRID, fine=Level((16, 16, 16), (3.0, 5.0, 5.0))))
    assert near.spatial_size == (21, 14, 14) and near.pixdim == pytest.approx((3.0476, 5.1429, 4.0), abs=1e-4)


@pytest.mark.parametrize("fine", [None, Level((16, 16, 16), (4.0, 6.0, 4.0))])
def test_there_is_none_where_no_second_level_is_finer(fine):
    assert finer_grid(replace(GRID, fine=fine)) is None
    assert FinerScans(replace(GRID, fine=fine)).atlas(None, None, "") is None


def scan_on(grid: Grid, origin: float, common_origin: float) -> FinerScan:
    """Return a scan of no contents on a finer grid, beside the common one; they don't begin at the same place."""
    affine, common = (torch.diag(torch.tensor([*of.pixdim, 1.0])).double() for of in (grid, GRID))
    affine[:3, 3], common[:3, 3] = origin, common_origin
    return FinerScan(MetaTensor(torch.zeros(1, *grid.spatial_size), affine=affine), common)


def test_affine_and_velocity_move_the_same_millimetres_on_finer_voxels():
    finer = finer_grid(GRID)
    fixed, moving = scan_on(finer, 1.0, 2.0), scan_on(finer, -3.0, -1.5)
    generator = torch.Generator().manual_seed(0)
    affine = torch.eye(3, 4) + torch.cat([torch.zeros(3, 3).uniform_(-0.1, 0.1), torch.tensor([[1.0], [-2], [0.5]])], 1)
    half = [(n + 1) // 2 for n in GRID.spatial_size]
    # a slow wave: what lies between voxels is as good as known
    wave = torch.linspace(0, 1.5, half[0]).sin().view(1, -1, 1, 1).expand(1, *half)
    velocity = 0.4 * torch.randn(3, 1, 1, 1, generator=generator) * wave

    def moved(affine, velocity, fixed_mm, moving_mm, size):
        """Return where in mm of the moving scan each voxel of the fixed one ends, and where in mm it begins."""
        ddf = total_ddf(affine[None], integrate(velocity[None], size), size)
        points = voxel_grid(size)
        return [
            torch.einsum("ij,jxyz->ixyz", to_mm[:3, :3].float(), p[0]) + to_mm[:3, 3].float().view(3, 1, 1, 1)
            for to_mm, p in ((moving_mm, points + ddf), (fixed_mm, points))
        ]

    ends, _ = moved(affine, velocity, fixed.common, moving.common, GRID.spatial_size)
    own = finer_affine(affine, GRID.spatial_size, finer.spatial_size, fixed.to_common, moving.to_common)
    there = finer_velocity(velocity, GRID.spatial_size, finer.spatial_size, fixed)
    assert there.shape == (3, *((n + 1) // 2 for n in finer.spatial_size))
    found, _ = moved(own, there, fixed.affine, moving.affine, finer.spatial_size)
    wanted = between_grids(ends, fixed.common, fixed.affine, finer.spatial_size)
    inner = (slice(None), slice(6, -6), slice(6, -6), slice(3, -3))
    assert float((found - wanted)[inner].abs().max()) < 0.15
    assert float((found - wanted.roll(1, 1))[inner].abs().max()) > 1


def write(folder, name, shift, label=False):
    """Write a scan of 1 mm with a body, an organ, and a thin tube in it that is no thicker than a common voxel."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (64, 72, 56)), indexing="ij")).astype(np.float32)
    x, y, z = grid - np.array([32.0, 36, 28])[:, None, None, None]
    y = y - shift * np.sin(x / 9)
    body = (x / 28) ** 2 + (y / 30) ** 2 + (z / 24) ** 2 < 1
    organ = ((x + 9) / 9) ** 2 + ((y + 6) / 11) ** 2 + ((z + 2) / 9) ** 2 < 1
    tube = ((x - 9) / 3) ** 2 + ((y - 9) / 3) ** 2 + (z / 18) ** 2 < 1
    if label:
        values = tube.astype(np.uint8)
    else:
        noise = np.random.default_rng(int(10 * shift)).normal(0, 0.02, body.shape)
        values = (0.2 * body + 0.4 * organ + 0.6 * tube + noise).astype(np.float32)
    path = str(folder / f"{name}{'_label' * label}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


@pytest.fixture(scope="module")
def labeller(tmp_path_factory):
    """A labeller of an atlas and two scans whose tube is thinner than a voxel of the common grid."""
    folder = tmp_path_factory.mktemp("scans")
    grid = Grid((16, 18, 14), (4.0, 4.0, 4.0), (0, 1), fine=Level((32, 32, 32), (1.0, 1.0, 1.0)))
    cases = [{"case": f"case_{n}", "image": write(folder, f"case_{n}", 2.0 * n)} for n in range(3)]
    atlas = {**cases[0], "label": write(folder, "case_0", 0.0, label=True)}
    preprocessing = ImagePreprocessing(grid)
    images = [preprocessing(dict(case)) for case in cases]
    cohort = SimpleNamespace(
        images=cases, labels={0: "background", 1: "tube"}, grid=grid, choose_atlases=lambda *settings: [atlas]
    )

    def make(name="finer", **changes):
        made = AtlasLabeller(
            cohort, images, LabelPreprocessing(grid), nn.Identity(), None, None, str(folder / name), bridges=0,
            refine_intensity=0.0, **changes,
        )  # fmt: skip
        made.align()
        made.register()
        return made

    made = make(finer=FinerScans(grid))
    made.make, made.truth = (
        make,
        {
            f"case_{n}": LabelPreprocessing(finer_grid(grid))(
                {"label": write(folder, f"case_{n}", 2.0 * n, label=True)}
            )
            for n in (1, 2)
        },
    )
    return made


def test_a_thin_label_keeps_on_finer_voxels_what_the_common_grid_loses(labeller):
    coarse = labeller.make("coarse")
    for item in labeller.images[1:]:
        truth = labeller.truth[item["case"]]["label"]
        label, scan = labeller.finest(item)
        assert label.shape == truth.shape == (2, 32, 36, 28)
        seen, common = coarse.finest(item)
        once = between_grids(seen, common.affine, scan.affine, truth.shape[1:])
        assert agreement(label, truth) > max(agreement(once, truth), 0.6) + 0.05
        kept = labeller.labels.load(item["case"])["label"]
        assert kept.shape == seen.shape
        torch.testing.assert_close(kept.sum(0), torch.ones(kept.shape[1:]), rtol=0, atol=0.01)


def test_what_is_there_is_not_registered_again(labeller, monkeypatch):
    monkeypatch.setattr("common.atlas.finer.register_velocity", lambda *a, **k: pytest.fail("registered again"))
    again = labeller.make(finer=labeller.finer_scans, resume=True)
    first, second = (one.labels.load("case_1")["label"] for one in (labeller, again))
    assert torch.equal(first, second)


def test_propagation_to_a_new_scan_ends_on_finer_voxels(labeller):
    item = labeller.images[1]
    found = propagate(labeller, item["image"])
    assert found.image.shape[1:] == found.label.shape[1:] == (32, 36, 28)
    assert agreement(found.label, labeller.finest(item)[0]) > 0.98


def test_of_many_atlases_those_go_on_that_a_case_resembles_most():
    assert nearest([0.2, 0.9, 0.1, 0.5, 0.3, 0.4]) == [1, 3, 4, 5] and nearest([0.3]) == [0]
