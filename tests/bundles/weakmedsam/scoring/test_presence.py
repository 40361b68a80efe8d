from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch

from support.bundle.path import import_bundle

module = import_bundle("weakmedsam", "scoring.presence")


@pytest.mark.parametrize(
    ("scores", "bits", "wanted"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1], 0.5),
        ([0.3, 0.1, 0.2, 0.4], [0, 0, 1, 1], 0.75),  # 3 of 4 pairs in order
    ],
)
def test_area_counts_the_pairs_in_order(scores, bits, wanted):
    assert module.presence_auc(np.array(scores), np.array(bits)) == wanted


def test_area_is_undefined_where_all_slices_are_alike():
    assert np.isnan(module.presence_auc(np.array([1.0, 2.0]), np.array([1, 1])))


def stored(codes: str, size=(6, 8, 10), spacing=(2.0, 1.0, 3.0)) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine of a scan whose RAS form has `size`, stored along `codes`."""
    affine = np.diag([*spacing, 1.0])
    to = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    image = nibabel.Nifti1Image(np.zeros(size, np.int16), affine).as_reoriented(to)
    return image.shape, image.affine


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "SAL"])
@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_slices_of_any_storage_are_found_on_the_grid(codes, slice_axis):
    shape, affine = stored(codes)
    slices = module.NativeSlices(shape, affine, slice_axis)
    size, spacing = (6, 8, 10), (2.0, 1.0, 3.0)
    n = size[slice_axis]
    assert shape[slices.axis] == n
    grid = np.diag([*spacing, 1.0])
    place = slices.on_grid(grid)  # on the scan's own RAS grid a slice's number is its place
    assert np.allclose(np.sort(place), np.arange(n))
    assert np.allclose(slices.depth, (place + 0.5) / n)
    grid[slice_axis] *= 2  # twice as coarse
    assert np.allclose(slices.on_grid(grid), place / 2)


def test_score_of_a_slice_is_its_largest_probability():
    shape, affine = stored("LPS")
    slices = module.NativeSlices(shape, affine, 1)
    probabilities = torch.zeros(2, 6, 8, 10)
    probabilities[1, 3, 5, 7] = 0.75
    found = slices.scores(probabilities, np.diag([2.0, 1.0, 3.0, 1.0]))
    assert found.shape == (1, 8) and found.max() == 0.75
    assert slices.on_grid(np.diag([2.0, 1.0, 3.0, 1.0]))[found.argmax()] == 5


def test_slice_index_is_the_mean_of_the_training_bits_at_that_depth(tmp_path):
    cases, labels = [], {}
    for number, codes in enumerate(("RAS", "LPI")):  # the second one is stored from superior to inferior
        shape, affine = stored(codes, size=(4, 4, 10 + 10 * number))
        path = tmp_path / f"{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), affine), path)
        cases.append({"case": str(number), "image": str(path)})
        n = shape[2]
        upper = np.arange(n) >= n // 2 if number == 0 else np.arange(n) < n // 2
        labels[str(number)] = SimpleNamespace(axis=2, bits=upper[None])
    index = module.SliceIndex(SimpleNamespace(cases=cases, slice_labels=labels, slice_axis=2))
    assert index.mean.shape == (1, 200)
    assert index.mean[0, :90].max() == 0 and index.mean[0, 110:].min() == 1  # the upper half, in both
    found = index.scores(module.NativeSlices((4, 4, 8), np.diag([1, 1, -1, 1]), 2))
    assert found[0].tolist() == pytest.approx([1, 1, 1, 1, 0, 0, 0, 0], abs=1e-9)
