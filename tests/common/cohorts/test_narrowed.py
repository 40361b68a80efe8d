"""Which cases stand for all others in a dry run."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from common.cohorts.cohort import middle_sized, names_of, voxels_of


@pytest.fixture
def cases(tmp_path):
    """Images of 2, 3, 4, 5, 6 and 28 slices of 64 voxels; 8 at the mean."""
    found = []
    for slices in (5, 2, 28, 6, 3, 4):
        path = tmp_path / f"{slices}.nii"
        nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, slices), np.uint8), np.eye(4)), path)
        found.append({"case": path.stem, "image": str(path)})
    return found


def test_cases_whose_size_is_nearest_to_the_mean_in_their_order(cases):
    """A sum is what is estimated, and the mean is that of a case; the median would leave the large scan out."""
    assert [case["case"] for case in middle_sized(cases, 3)] == ["5", "6", "4"]
    assert middle_sized([], 3) == [] and middle_sized(cases, 9) == cases and voxels_of(cases[0]) == 320


def test_names_of_many_cases_are_a_few(cases):
    assert names_of(cases) == "5, 2, 28 and 3 more" and names_of(cases[:2]) == "5, 2"
