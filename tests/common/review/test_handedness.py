"""A mirrored body is told where halves differ, and nothing is said where they don't."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.review.handedness import AXES, POINTS, learn_handedness, surroundings

SIZE = (40, 36, 28)
PIXDIM = (1.0, 1.5, 2.0)


def body(seed, sided=True, shift=0.0):
    """An organ at a place of its own, with something bright to the one side of it (R, A and S) where it is sided."""
    random = np.random.default_rng(seed)
    axes = torch.meshgrid(*(torch.arange(n) * p for n, p in zip(SIZE, PIXDIM, strict=True)), indexing="ij")
    centre = [n * p / 2 + shift + random.uniform(-2, 2) for n, p in zip(SIZE, PIXDIM, strict=True)]

    def ball(offset, radius):
        return sum((a - c - o) ** 2 for a, c, o in zip(axes, centre, offset, strict=True)) < radius**2

    organ = ball((0, 0, 0), 6)
    other = ball((8, 7, 6), 4) if sided else ball((0, 0, 0), 3)
    noise = torch.from_numpy(random.normal(0, 0.05, SIZE)).float()
    image = 0.4 * organ + 0.8 * other + noise
    return image[None], organ.long()


def seen(image, found):
    return surroundings(image, found, PIXDIM)


KNOWN = learn_handedness([seen(*body(seed)) for seed in range(8)])


def test_what_is_around_is_normed_and_the_size_does_not_count():
    image, found = body(1)
    one = seen(image, found)
    assert one.shape == (POINTS,) * 3
    assert float(one.mean()) == pytest.approx(0, abs=1e-6) and float(one.norm()) == pytest.approx(1)
    twice = surroundings(image, found, [2 * p for p in PIXDIM])
    assert torch.allclose(one, twice, atol=1e-4)


@pytest.mark.parametrize("axis", range(3))
def test_a_mirrored_scan_is_told_by_its_axis(axis):
    assert KNOWN.told == (True, True, True)
    for seed in range(20, 26):
        image, found = body(seed)
        assert KNOWN.mirrored(seen(image, found)) == []
        assert KNOWN.mirrored(seen(image.flip(axis + 1), found.flip(axis))) == [AXES[axis]]


def test_halves_that_are_alike_tell_nothing():
    assert learn_handedness([seen(*body(seed, sided=False)) for seed in range(12)]) is None


def test_few_scans_tell_nothing():
    around = [seen(*body(seed)) for seed in range(5)]
    assert learn_handedness(around) is None
    assert learn_handedness([*around, None]) is None


def test_nothing_found_and_a_flat_image_are_not_judged():
    image, found = body(0)
    assert seen(image, torch.zeros_like(found)) is None
    assert seen(torch.ones_like(image), found) is None
    assert KNOWN.mirrored(None) == []
