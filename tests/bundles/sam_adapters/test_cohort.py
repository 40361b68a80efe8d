from __future__ import annotations

from types import SimpleNamespace

import pytest

from support.bundle.path import import_bundle

cohort_module = import_bundle("sam_adapters", "cohort")
InputError = import_bundle("sam_adapters", "common.errors").InputError
Grid = import_bundle("sam_adapters", "common.grid.grid").Grid
Level = import_bundle("sam_adapters", "common.grid.grid").Level


def cohort(pixdim, slices="auto", fine=None):
    found = cohort_module.SlicedCohort.__new__(cohort_module.SlicedCohort)
    found.slices, found.slice_pixels = slices, 192
    found.__dict__["grid"] = Grid((32, 32, 16), pixdim, (0, 1), fine=fine)
    return found


@pytest.mark.parametrize(
    ("pixdim", "axis"),
    [((2.0, 2.0, 2.0), 2), ((2.0, 2.0, 8.0), 2), ((2.0, 8.0, 2.0), 1), ((8.0, 2.0, 2.0), 0), ((2.5, 2.0, 2.0), 2)],
)
def test_slices_are_cut_across_the_axis_of_thick_ones(pixdim, axis):
    assert cohort(pixdim).slice_axis == axis


def test_the_finest_level_says_what_is_thick():
    fine = Level((32, 32, 8), (1.5, 1.5, 7.0))
    assert cohort((7.0, 7.0, 7.5), fine=fine).slice_axis == 2
    assert cohort((7.0, 7.0, 7.5), fine=Level((8, 32, 32), (7.0, 1.5, 1.5))).slice_axis == 0


def test_a_word_for_the_slices_counts():
    assert [cohort((2.0, 8.0, 2.0), word).slice_axis for word in ("sagittal", "coronal", "axial")] == [0, 1, 2]
    with pytest.raises(InputError, match="slices is 'oblique'; wanted one of sagittal, coronal, axial, auto"):
        cohort_module.SlicedCohort("nowhere", SimpleNamespace(), slices="oblique")


def test_slices_are_as_fine_as_the_second_level():
    assert cohort((2.0, 2.0, 2.0)).slice_grid.spatial_size == (32, 32, 16)
    fine = cohort((8.0, 8.0, 8.0), fine=Level((32, 32, 32), (2.0, 2.0, 8.0))).slice_grid
    assert fine.spatial_size == (128, 128, 16) and fine.fine is None
