from __future__ import annotations

import nibabel
import numpy as np
import pytest

from common.grid.grid import Level
from common.grid.plan import agreed_level, plan_grid, plan_strides, robust_extent
from common.grid.plan_summary import describe_clipped, describe_grid, describe_kept, kept_by_levels


def scans(folder, *kinds: tuple[tuple[int, ...], tuple[float, ...]]) -> list[dict]:
    cases = []
    for number, (shape, spacing) in enumerate(kinds):
        path = folder / f"case_{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.diag([*spacing, 1.0])), path)
        cases.append({"case": f"case_{number}", "image": str(path)})
    return cases


def test_thick_slices_keep_theirs_and_the_plane_gets_the_voxels(tmp_path):
    grid = plan_grid(scans(tmp_path, *[((216, 216, 10), (1.5, 1.5, 10.0))] * 3), (0, 1))
    assert grid.pixdim[2] == 10.0 and grid.spatial_size[2] == 10  # no slice that doesn't exist
    assert max(grid.pixdim[:2]) < 3.5  # 5.65 where every axis has an equal share
    assert 0.8 < np.prod(grid.spatial_size) / 98304 < 1.25
    assert np.prod(grid.strides, axis=0).tolist() == [8, 8, 2]


def test_a_second_level_where_the_first_is_coarse_and_the_scans_are_finer(tmp_path):
    grid = plan_grid(scans(tmp_path, *[((256, 256, 150), (1.5, 1.5, 3.0))] * 2), (0, 1))
    assert grid.fine is not None and grid.fine.pixdim[2] == 3.0
    assert grid.fine.pixdim[0] == pytest.approx(min(grid.pixdim) / 4, rel=1e-3)
    assert 0.6 < np.prod(grid.fine.spatial_size) / 98304 < 1.3
    assert (np.array(grid.fine.spatial_size) % np.prod(grid.fine.strides, axis=0) == 0).all()


@pytest.mark.parametrize(
    ("asked", "levels"),
    [({}, 2), ({"levels": 1}, 1), ({"pixdim": [4, 4, 4]}, 1), ({"pixdim": [4, 4, 4], "fine_pixdim": [2, 2, 3]}, 2)],
)
def test_levels_can_be_asked_for(tmp_path, asked, levels):
    grid = plan_grid(scans(tmp_path, ((256, 256, 150), (1.5, 1.5, 3.0))), (0, 1), **asked)
    assert (grid.fine is not None) == (levels == 2)
    if "fine_pixdim" in asked:
        assert grid.fine.pixdim == (2.0, 2.0, 3.0)


def test_scans_that_fit_one_level_have_one(tmp_path):
    assert plan_grid(scans(tmp_path, ((36, 50, 36), (1, 1, 1))), (0, 1)).fine is None
    assert plan_grid(scans(tmp_path, ((180, 140, 88), (0.625,) * 3)), (0, 1)).fine is None
    assert plan_grid(scans(tmp_path, ((180, 140, 88), (0.625,) * 3)), (0, 1), levels=2).fine is not None


def test_one_scan_of_the_whole_body_makes_no_other_coarser():
    usual = [np.array([300.0, 300.0, 250.0 + n]) for n in range(10)]
    assert robust_extent([*usual, np.array([500.0, 500.0, 1900.0])]).tolist() == [300, 300, 259]
    assert robust_extent([np.array([100.0, 100, 100]), np.array([120.0, 100, 100])]).tolist() == [120, 100, 100]


def test_steps_make_a_window_isotropic_first_and_leave_four_voxels():
    assert plan_strides((96, 96, 10), (1.5, 1.5, 10), 8) == ((2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert plan_strides((32, 32, 16), (1, 1, 1), 8) == ((2, 2, 2), (2, 2, 2), (2, 2, 1))


def test_the_lines_say_what_is_seen_and_what_a_label_loses(tmp_path):
    cases = scans(tmp_path, *[((200, 200, 100), (1.5, 1.5, 2.5))] * 4, ((200, 200, 400), (1.5, 1.5, 2.5)))
    label = np.zeros((200, 200, 100), np.uint8)
    label[40:140, 40:140, 20:70], label[150:155, 20:25, 50:53] = 1, 2
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(label, np.diag([1.5, 1.5, 2.5, 1])), path)
    grid = plan_grid(cases, (0, 1, 2))
    lines = list(describe_grid(grid, cases))
    assert len(lines) == 3 and "5 scans" in lines[0] and "1.5 x 1.5 x 2.5 mm" in lines[0]
    assert "all but the edges of 1 larger scans (case_4)" in lines[1] and lines[2].startswith("level 2: windows of")
    kept = kept_by_levels(grid, [str(path)])
    assert kept[1][1] > 0.95 and kept[1][2] < 0.6 < kept[2][2]
    (line,) = describe_kept(kept, {0: "background", 1: "liver", 2: "node"})
    assert "node" in line and "on level 1 alone" in line
    assert list(describe_kept({}, {})) == []


def test_a_level_refuses_what_is_none():
    with pytest.raises(ValueError, match="strides"):
        Level((8, 8, 8), (1, 1, 1), ((0, 1, 1),)).check()


def test_a_range_that_cuts_off_much_is_a_warning_that_says_what_that_does():
    assert describe_clipped("CT", 0.03, 0.1) == "CT: of what is no air 3% lies below that range and 10% above it"
    for shares, what in (((0.4, 0.0), "is as dark as air"), ((0.0, 0.3), "is all alike")):
        line = describe_clipped("CT", *shares)
        assert line.startswith("warning: CT: ") and what in line and "--intensity_range LOW,HIGH" in line


def test_a_level_of_a_given_size_and_spacing_needs_no_scan():
    found = agreed_level([24, 16, 12], [2.0, 2.0, 5.0], divisor=8)
    assert (found.spatial_size, found.pixdim) == ((24, 16, 12), (2.0, 2.0, 5.0))
    assert found.strides == ((2, 2, 1), (2, 2, 2), (1, 1, 1))  # thick slices wait, and an axis keeps four voxels
    assert agreed_level([24, 16, 12], [2, 2, 5], strides=[2, (2, 1, 1)]).strides == ((2, 2, 2), (2, 1, 1))
