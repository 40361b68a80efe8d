"""Prior, location and appearance weighed, and cut; what the labeller makes of it is in test_labeller_evidence.py."""

from __future__ import annotations

import math

import pytest
import torch

from support.bundle.path import import_bundle

module = import_bundle("weakmedsam", "soft_labels")
calibrate, cut, posterior = module.calibrate, module.cut, module.posterior


def logit(value: float) -> float:
    return math.log(value / (1 - value))


def volume(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


# --- weighing


@pytest.mark.parametrize(
    ("place", "appearance", "of_this_scan", "wanted"),
    [
        (None, 2.0, False, logit(0.6 * 0.8 + 0.02) + 2),
        (0.3, None, False, 0.5 * logit(0.6 * 0.8 + 0.02) + 0.5 * logit(0.94 * 0.3 + 0.02)),
        (0.3, -1.0, False, 0.5 * logit(0.6 * 0.8 + 0.02) + 0.5 * logit(0.94 * 0.3 + 0.02) - 1),
        (None, 2.0, True, logit(0.8) + 2),
        (0.3, None, True, logit(0.8) + 0.5 * logit(0.94 * 0.3 + 0.02)),
    ],
)
def test_evidence_adds_up_on_the_scale_of_logits(place, appearance, of_this_scan, wanted):
    given = [None if value is None else volume(value, value) for value in (place, appearance)]
    found = posterior(volume(0.8, 0.8), volume(1, 0), *given, of_this_scan)
    assert found.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-wanted)), 0], abs=1e-6)


def test_a_prior_alone_is_left_as_it_is_and_none_is_beyond_doubt():
    prior = volume(0.0, 0.4, 1.0)
    assert posterior(prior, torch.ones_like(prior), of_this_scan=True) is prior
    for of_this_scan in (True, False):
        found = posterior(prior, torch.ones_like(prior), None, torch.zeros_like(prior), of_this_scan)
        assert 0 < found.amin() and found.amax() < 1


def test_thresholds_become_one_half_each_its_own():
    maps = torch.cat([volume(0.1, 0.2, 0.6), volume(0.1, 0.2, 0.6)])
    found = calibrate(maps, torch.tensor([0.2, 0.6]))
    assert found[0, 0, 0, 1] == pytest.approx(0.5) and found[1, 0, 0, 2] == pytest.approx(0.5)
    # odds of 1.5 over odds of 0.25 are 6
    assert found[0, 0, 0, 2] == pytest.approx(6 / 7, abs=1e-6)


# --- cutting


@pytest.mark.parametrize("small", [1, 2])
def test_cut_gives_a_voxel_of_several_labels_to_the_smallest_and_leaves_doubt_out(small):
    columns = [  # the large label, the small one, whose the voxel is, its weight
        (0.10, 0.29, "none", 1),
        (0.50, 0.50, "none", 0),
        (0.80, 0.80, "small", 1),
        (0.95, 0.75, "small", 1),  # however much surer the large one is, it encloses the small one
        (0.90, 0.60, "small", 0),  # which is in doubt here
        (0.90, 0.45, "large", 1),  # surely there
        (0.60, 0.45, "large", 0),
        (0.60, 0.90, "small", 1),
        (0.10, 0.80, "small", 1),
        (0.80, 0.10, "large", 1),
        (0.35, 0.10, "none", 0),
        (0.00, 0.00, "none", 1),  # a negative slice
    ]
    large = 3 - small
    maps = torch.zeros(2, 1, 1, len(columns))
    maps[large - 1, 0, 0], maps[small - 1, 0, 0] = torch.tensor([[c[0] for c in columns], [c[1] for c in columns]])
    sizes = (maps > 0.5).flatten(1).sum(1)
    assert sizes[small - 1] < sizes[large - 1]
    bits = torch.ones_like(maps)
    bits[..., -1] = 0
    target, weight = cut(maps, bits, 0.2)
    assert target.shape == (3, *maps.shape[1:]) and weight.shape == (1, *maps.shape[1:])
    names = {"none": 0, "small": small, "large": large}
    assert target.argmax(0).flatten().tolist() == [names[c[2]] for c in columns] and target.sum(0).eq(1).all()
    assert weight.flatten().tolist() == [c[3] for c in columns]


def test_which_label_is_smaller_is_asked_of_each_case():
    bits = torch.ones(2, 1, 1, 6)
    first = torch.tensor([[0.9, 0.9, 0.0, 0.0, 0.0, 0.0], [0.6, 0.6, 0.6, 0.6, 0.0, 0.0]]).view(2, 1, 1, 6)
    for maps, wanted in ((first, [1, 1, 2, 2, 0, 0]), (first.flip(0), [2, 2, 1, 1, 0, 0])):
        assert cut(maps, bits, 0.0)[0].argmax(0).flatten().tolist() == wanted
    equal = torch.tensor([[0.6, 0.6, 0.0], [0.0, 0.9, 0.9]]).view(2, 1, 1, 3)
    assert cut(equal, bits[..., :3], 0.0)[0].argmax(0).flatten().tolist() == [1, 1, 2]  # the first of two


def test_a_label_that_is_nowhere_takes_no_voxel():
    maps = torch.zeros(2, 1, 1, 4)
    maps[1, ..., :2] = 0.9
    assert cut(maps, torch.ones_like(maps), 0.2)[0].argmax(0).flatten().tolist() == [2, 2, 0, 0]


def test_doubt_is_only_where_the_label_may_be_and_none_without_a_band():
    maps, bits = torch.full((2, 1, 1, 4), 0.45), torch.ones(2, 1, 1, 4)
    bits[:, ..., 2:] = 0
    bits[1, ..., 1] = 0
    assert cut(maps, bits, 0.2)[1].flatten().tolist() == [0, 0, 1, 1]
    assert cut(maps, bits, 0)[1].eq(1).all()
