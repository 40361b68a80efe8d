"""Which labelled slices are nearest to those of a scan."""

from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle

supports = import_bundle("semisam_plus", "zero_step.supports")
InputError = import_bundle("semisam_plus", "common.errors").InputError
DEPTH = 21


def volume(seed: int = 0, first: int = 5, last: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [D, C, 2, 2] of slices, and probabilities [2, 4, 4, D] with foreground from first to last."""
    features = torch.randn(DEPTH, 8, 2, 2, generator=torch.Generator().manual_seed(seed))
    label = torch.zeros(2, 4, 4, DEPTH)
    label[1, 1:3, 1:3, first : last + 1] = 1
    label[0] = 1 - label[1]
    return features, label


def test_only_slices_with_foreground_are_kept_with_their_places():
    made = supports.make_supports([volume(), volume(1, 8, 9)])
    assert len(made) == 11 + 2 and made.cases.tolist() == [0] * 11 + [1] * 2
    assert made.positions[:11] * (DEPTH - 1) == pytest.approx(range(5, 16)) and made.labels.dtype == torch.uint8
    assert made.features.dtype == torch.float16 and bool(made.labels.flatten(1).any(1).all())


def test_each_slice_finds_its_own_among_all():
    features, label = volume()
    made = supports.make_supports([volume(1), (features, label)])
    found = made.nearest(features, count=1, shift=0.0)[:, 0]
    assert found[5:16].tolist() == list(range(11, 22))


def test_a_slice_outside_of_the_window_is_never_near_however_alike():
    features, label = volume(first=5, last=15)
    features[20] = features[10]  # the last slice looks like the middle one
    found = supports.make_supports([(features, label)]).nearest(features, count=3, shift=0.0, window=0.1)
    assert found[20].tolist() == [-1, -1, -1] and found[0].tolist() == [-1, -1, -1]
    places = (found[10] + 5).tolist()
    assert places[0] == 10 and all(abs(place - 10) <= 2 for place in places)


@pytest.mark.parametrize("moved", [3, -4])
def test_a_labelled_volume_is_moved_along_the_scan_to_where_it_fits(moved):
    features, label = volume()
    seen = features.roll(moved, dims=0)
    found = supports.make_supports([(features, label)]).nearest(seen, count=1, shift=0.2, window=0.05)[:, 0]
    assert found[5 + moved : 16 + moved].tolist() == list(range(11))
    still = supports.make_supports([(features, label)]).nearest(seen, count=1, shift=0.0, window=0.05)[:, 0]
    assert still[10] + 5 != 10 - moved


def test_fewer_than_wanted_are_all_there_are():
    features, label = volume(first=10, last=11)
    assert supports.make_supports([(features, label)]).nearest(features, count=3).shape == (DEPTH, 2)


def test_without_foreground_there_is_a_line():
    features, label = volume()
    with pytest.raises(InputError, match="found no foreground on the grid, wanted a structure"):
        supports.make_supports([(features, torch.stack([label.sum(0), 0 * label[0]]))])
