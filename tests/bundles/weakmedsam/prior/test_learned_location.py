from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, ResizeWithPadOrCrop, Spacing

from support.bundle.path import import_bundle

LearnedLocation = import_bundle("weakmedsam", "prior.learned_location").LearnedLocation
sample = import_bundle("weakmedsam", "prior.learned_location").sample

# fractions of the scan; the two labels share some slices
CENTRE, RADII = ((0.3, 0.7), (0.6, 0.4)), ((0.15, 0.2), (0.2, 0.15))
RANGE = ((0.3, 0.8), (0.5, 0.9))
GRID, PIXDIM = (32, 40, 36), (1.0, 1.0, 1.5)
SCANS = [
    ("RAS", (32, 40, 30), (1.0, 1.0, 1.5)),  # the grid's own, a little shorter
    ("LPS", (40, 48, 44), (0.7, 0.7, 1.2)),
    ("SRA", (20, 26, 18), (1.5, 1.4, 2.4)),
    ("PIL", (36, 44, 40), (1.0, 1.0, 1.5)),  # larger than the grid, which cuts it
]


def ellipses(size, axis: int, row: int) -> torch.Tensor:
    """A label [H, W, D] of a scan: an ellipse at fixed fractions in-plane, on a range of slices."""
    place = torch.meshgrid(*[(torch.arange(n) + 0.5) / n for n in size], indexing="ij")
    plane = [place[a] for a in range(3) if a != axis]
    inside = sum(((p - c) / r) ** 2 for p, c, r in zip(plane, CENTRE[row], RADII[row], strict=True)) < 1
    return (inside & (place[axis] > RANGE[row][0]) & (place[axis] < RANGE[row][1])).float()


def case(codes, size, pixdim, axis: int = 2, present=(True, True)):
    """Image, presence and labels on the grid, of a scan stored along `codes`; size and pixdim are along R, A, S."""
    affine = np.diag([*pixdim, 1.0])
    affine[:3, 3] = [-20.0, 7.0, 30.0]
    labels = torch.stack([ellipses(size, axis, row) * known for row, known in enumerate(present)])
    others = [a + 1 for a in range(3) if a != axis]
    bits = labels.amax(others, keepdim=True).expand_as(labels)
    brought = []
    for values in (labels.amax(0, keepdim=True), bits, labels):
        stored = Orientation(codes, labels=None)(MetaTensor(values.contiguous(), affine=affine))
        meta = {"spatial_shape": np.array(stored.shape[1:]), "original_affine": stored.affine.numpy().copy()}
        stored = MetaTensor(stored.as_tensor().clone(), affine=stored.affine, meta=meta)
        steps = [Spacing(PIXDIM, mode="nearest", padding_mode="border"), ResizeWithPadOrCrop(GRID, mode="edge")]
        brought.append(Compose([Orientation("RAS", labels=None), *steps])(stored))
    return brought[0], brought[1].as_tensor(), brought[2].as_tensor()


def dice(first, second) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.mark.parametrize("axis", [0, 2])
def test_one_place_in_scans_of_every_size_spacing_and_orientation_is_one_sharp_mean(axis):
    cases = [case(*scan, axis=axis) for scan in SCANS]
    found = LearnedLocation(axis)
    found.fit(cases)
    doubt = ((found.mean > 0.25) & (found.mean < 0.75)).float().mean()
    assert (
        found.mean.shape[0] == 2 and found.mean.shape[axis + 1] == 12 and sorted(found.mean.shape[1:])[1:] == [32, 32]
    )
    assert doubt < 0.05 and found.mean.amax() > 0.95
    for image, presence, labels in cases:
        prior = found.prior(image, presence) * presence
        assert prior.shape == labels.shape
        for own, label in zip(prior, labels, strict=True):
            assert dice(own > 0.5, label > 0.5) > 0.85


def test_where_cases_differ_the_mean_is_blurred():
    cases = [case(*SCANS[0]) for _ in range(4)]
    moved = [(image, presence, labels.roll(3 * n, 1)) for n, (image, presence, labels) in enumerate(cases)]
    sharp, blurred = LearnedLocation(2), LearnedLocation(2)
    sharp.fit(cases)
    blurred.fit(moved)
    shares = [float(((f.mean > 0.1) & (f.mean < 0.9)).float().mean()) for f in (sharp, blurred)]
    assert shares[1] > 2 * shares[0]


def test_what_errs_in_one_case_is_outvoted():
    cases = [case(*scan) for scan in SCANS]
    image, presence, labels = cases[1]
    found = LearnedLocation(2)
    found.fit([cases[0], (image, presence, labels.flip(1)), *cases[2:]])
    assert dice(found.prior(image, presence)[0] * presence[0] > 0.5, labels[0] > 0.5) > 0.85


def test_the_range_of_slices_is_each_cases_own():
    image, presence, labels = case(*SCANS[0])
    found = LearnedLocation(2)
    found.fit([(image, presence, labels)])
    shifted = presence.roll(4, 3)
    prior = found.prior(image, shifted) * shifted
    assert dice(prior[0] > 0.5, labels[0].roll(4, 2) > 0.5) > 0.9


def test_a_case_without_a_label_does_not_count_and_gets_none():
    without = case(*SCANS[1], present=(False, True))
    cases = [case(*SCANS[0]), without, case(*SCANS[2])]
    found, reference = LearnedLocation(2), LearnedLocation(2)
    found.fit(cases)
    reference.fit([cases[0], cases[2]])
    assert found.mean[0].equal(reference.mean[0]) and not found.mean[1].equal(reference.mean[1])
    prior = found.prior(*without[:2])
    assert prior[0].eq(0).all() and prior[1].amax() > 0.9


def test_a_label_that_no_case_has_lies_nowhere():
    found = LearnedLocation(2)
    found.fit([case(*SCANS[0], present=(True, False))])
    assert found.mean[1].eq(0).all() and found.mean[0].amax() > 0.9


def test_nothing_was_averaged():
    with pytest.raises(RuntimeError, match="nothing was averaged"):
        LearnedLocation(2).prior(*case(*SCANS[0])[:2])


def test_samples_lie_between_voxels_and_repeat_the_border():
    volume = torch.arange(24.0).reshape(2, 3, 4)
    positions = [torch.tensor([0.0, 0.5, 1.0]), torch.tensor([2.0]), torch.tensor([-3.0, 1.25, 9.0])]
    found = sample(volume, positions)
    assert found.shape == (3, 1, 3)
    assert torch.allclose(found[:, 0], torch.tensor([[8, 9.25, 11], [14, 15.25, 17], [20, 21.25, 23]]), atol=1e-4)
