from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from common.cohorts.cohort import Cohort
from common.errors import InputError

AFFINE = np.diag([2.0, 2, 2, 1])


def write(folder, cases=3, **content):
    """Write scans of a body of -100 in air of -1000, in which a cube of 60, the label, is in each; the last is a test
    case, which is brighter by 500."""
    folder.mkdir()
    entries = []
    for index in range(cases + 1):
        image = np.full((20, 20, 20), -1000, np.int16)
        image[4:16, 4:16, 4:16], image[8:12, 8:12, 8:12] = -100, 60
        image += np.random.default_rng(index).integers(-5, 6, image.shape).astype(np.int16) + 500 * (index == cases)
        for kind, array in (("image", image), ("label", (image > 0).astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(array, AFFINE), folder / f"{kind}_{index}.nii.gz")
        entries.append({"image": f"image_{index}.nii.gz", "label": f"label_{index}.nii.gz"})
    content = {"labels": {"0": "b", "1": "cube"}, "training": entries[:-1], "test": entries[-1:], **content}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def cohort(folder, labelled=1, **options):
    """Return a cohort that may open the labels of the first cases alone; the others' files are spoilt."""
    found = Cohort(str(folder), **options)
    found.cases = found.content.training
    for case in found.cases[labelled:]:
        (folder / f"label_{case['case'][-1]}.nii.gz").write_bytes(b"never opened")
        del case["label"]
    return found


def test_a_ct_has_one_range_measured_on_what_the_regime_opens(tmp_path):
    found = cohort(write(tmp_path / "d", modality={"0": "CT"}))
    ((low, high),) = found.grid.intensity_range
    assert low == pytest.approx(-105, abs=1) and high == pytest.approx(65, abs=1), "the test case has no say"
    line = f"intensities from 0 to 1: CT {low:g} to {high:g} (measured inside labels of 1 scans and in the body of 3)"
    lines = found.describe_plan()
    assert line in lines
    assert any(one.startswith("CT: of what is no air ") and "below that range" in one for one in lines)


def test_a_ct_that_random_contrasts_are_made_of_has_percentiles_unless_a_range_is_given(tmp_path):
    folder = write(tmp_path / "d", modality={"0": "CT"})
    assert cohort(folder, randomise=0.5).grid.intensity_range == (None,)
    assert cohort(folder, randomise=0.5, intensity_range="-100,50").grid.intensity_range == ((-100, 50),)
    assert cohort(folder, randomise=0.0).grid.intensity_range == cohort(folder).grid.intensity_range != (None,)


def test_files_are_looked_at_once(tmp_path, monkeypatch):
    found, opened = cohort(write(tmp_path / "d", modality={"0": "CT"})), []
    monkeypatch.setattr("common.cohorts.cohort.require_sound", lambda *groups, **options: opened.append(groups))
    found.grid, found.check(), found.check()
    assert len(opened) == 1


@pytest.mark.parametrize("content", [{}, {"modality": {"0": "MRI"}}])
def test_anything_else_has_percentiles_and_nothing_is_opened_for_them(tmp_path, monkeypatch, content):
    found = cohort(write(tmp_path / "d", **content))
    monkeypatch.setattr("common.cohorts.cohort.require_sound", lambda *groups, **options: pytest.fail("opened"))
    assert found.grid.intensity_range == (None,)
    name = "MRI " if content else ""
    assert found.describe_intensities() == f"intensities from 0 to 1: {name}percentiles of each scan"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("percentiles", (None,)),
        ([-160, 240], ((-160, 240),)),
        ("-160,240", ((-160, 240),)),
        ([[-160, 240]], ((-160, 240),)),
        ([None], (None,)),
    ],
)
def test_what_is_given_is_taken_and_nothing_measured(tmp_path, monkeypatch, given, wanted):
    found = cohort(write(tmp_path / "d", modality={"0": "CT"}), intensity_range=given)
    monkeypatch.setattr("common.cohorts.cohort.require_sound", lambda *groups, **options: pytest.fail("opened"))
    assert found.grid.intensity_range == wanted
    if wanted[0]:
        assert found.describe_intensities() == "intensities from 0 to 1: CT -160 to 240 (as given)"


def test_ranges_that_are_none_are_one_line(tmp_path):
    folder = write(tmp_path / "d")
    with pytest.raises(InputError) as caught:
        Cohort(str(folder), intensity_range=[240, -160])
    assert caught.value.problems == [
        "intensity_range is [240, -160]; wanted percentiles, or two ascending numbers such as -160,240; a list of "
        "these for several channels, or null"
    ]
    with pytest.raises(InputError) as caught:
        _ = cohort(folder, intensity_range=[[0, 1], "percentiles"]).grid
    assert caught.value.problems == ["intensity_range has 2 entries; wanted 1, one for each channel"]


def test_what_is_wrong_with_a_ct_is_said_when_its_range_is_measured(tmp_path):
    folder = write(tmp_path / "d", modality={"0": "CT"})
    (folder / "image_1.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"^image_1.nii.gz: the file is empty"):
        _ = cohort(folder).grid
