"""Masks of one structure each become one label map, and what lies in two of them goes to the smaller one."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from tools.layouts.structures import merge_masks

LABELS = {0: "background", 1: "liver", 2: "spleen", 3: "vessel"}


def save(path: Path, array: np.ndarray, spacing: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), np.diag([spacing] * 3 + [1])), path)
    return path


@pytest.fixture
def image(tmp_path) -> Path:
    return save(tmp_path / "ct.nii.gz", np.arange(1000).reshape(10, 10, 10) % 200)


def block(start: int, stop: int, width: int = 10) -> np.ndarray:
    array = np.zeros((10, 10, 10))
    array[start:stop, :width] = 1
    return array


def test_masks_apart_keep_every_voxel(tmp_path, image):
    masks = {1: save(tmp_path / "liver.nii.gz", block(0, 3)), 2: save(tmp_path / "spleen.nii.gz", block(5, 6) * 255)}
    assert merge_masks(masks, image, tmp_path / "out/label.nii.gz", LABELS, 0.0) is None
    found = nibabel.load(tmp_path / "out/label.nii.gz")
    assert np.array_equal(found.dataobj, block(0, 3) + 2 * block(5, 6)) and found.get_data_dtype() == np.uint8


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3)])
def test_a_voxel_in_several_masks_goes_to_the_smallest_whatever_the_order(tmp_path, image, order):
    arrays = {1: block(0, 6), 2: block(5, 8), 3: block(5, 6, width=2)}  # 600, 300 and 20 voxels, which lie in both
    masks = {value: save(tmp_path / f"{LABELS[value]}.nii.gz", arrays[value]) for value in order}
    said = merge_masks(masks, image, tmp_path / "label.nii.gz", LABELS, 1.0)
    wanted = block(0, 5) + 2 * block(5, 8) + block(5, 6, width=2)
    assert np.array_equal(nibabel.load(tmp_path / "label.nii.gz").dataobj, wanted)
    assert said == "100 voxels (12.50% of the label) in several masks, given to the smaller structure"


def test_a_structure_that_lies_in_others_by_more_than_it_may_is_a_line(tmp_path, image):
    folder = tmp_path / "segmentations"
    masks = {1: save(folder / "liver.nii.gz", block(0, 6)), 2: save(folder / "spleen.nii.gz", block(5, 7))}
    for most, count in ((0.1, 2), (0.4, 1), (0.5, 0)):  # 100 of 600, and of 200
        try:
            merge_masks(masks, image, tmp_path / "label.nii.gz", LABELS, most)
            problems = []
        except InputError as error:
            problems = error.problems
        assert len(problems) == count
        assert not problems or "spleen.nii.gz: 50% of spleen lies in other structures' masks" in problems[-1]


def test_an_empty_mask_says_that_nothing_is_there(tmp_path, image):
    masks = {1: save(tmp_path / "liver.nii.gz", block(0, 3)), 2: save(tmp_path / "spleen.nii.gz", block(0, 0))}
    assert merge_masks(masks, image, tmp_path / "label.nii.gz", LABELS, 0.0) is None
    assert np.array_equal(nibabel.load(tmp_path / "label.nii.gz").dataobj, block(0, 3))


def test_what_is_no_mask_of_the_scan_is_a_line_each(tmp_path, image):
    masks = {
        1: save(tmp_path / "liver.nii.gz", block(0, 3), spacing=2.0),
        2: save(tmp_path / "spleen.nii.gz", block(0, 3) + block(1, 2)),
        3: tmp_path / "vessel.nii.gz",
    }
    with pytest.raises(InputError) as raised:
        merge_masks(masks, image, tmp_path / "label.nii.gz", LABELS, 0.0)
    lines = raised.value.problems
    assert len(lines) == 3 and "liver.nii.gz: spacing 2, 2, 2 mm; wanted 1, 1, 1 mm as in ct.nii.gz" in lines[0]
    assert "the mask has the values 1, 2; wanted one beside 0" in lines[1] and "no such file" in lines[2]
    assert not (tmp_path / "label.nii.gz").exists()


def test_more_structures_than_a_byte_holds(tmp_path, image):
    labels = {value: str(value) for value in range(301)}
    merge_masks({300: save(tmp_path / "x.nii.gz", block(0, 3))}, image, tmp_path / "label.nii.gz", labels, 0.0)
    assert nibabel.load(tmp_path / "label.nii.gz").get_fdata().max() == 300
