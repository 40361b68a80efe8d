"""A scan is looked at twice by the same network, and the second answer lies on its voxels."""

from __future__ import annotations

import threading

import torch
from monai.inferers import SimpleInferer

from common.errors import InputError
from common.review.second_view import ReviewedInferer, SecondView, take_second_view


def ball(size=(24, 24, 24), radius=7.0, centre=(11.5, 11.5, 11.5)):
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) <= radius**2


class Threshold(torch.nn.Module):
    """Every bright voxel is class 1: what it says turns with the scan."""

    def forward(self, image):
        bright = (image > 0.5).float()
        return torch.cat([1 - bright, bright], 1).clamp_min(1e-7).log()


def dice(a, b):
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_what_turns_with_the_scan_comes_back_to_its_place():
    mask = ball(centre=(8.0, 13.0, 12.0))
    inferer = ReviewedInferer(SimpleInferer())
    found = inferer(mask.float()[None, None], Threshold())
    assert torch.equal(found[0].argmax(0).bool(), mask)
    again = take_second_view(mask.shape)
    assert again.shape == mask.shape and dice(again > 0, mask) > 0.9
    assert take_second_view(mask.shape) is None  # once


def test_what_hangs_on_the_place_does_not_agree():
    class Half(torch.nn.Module):
        def forward(self, image):
            bright = torch.zeros_like(image)
            bright[:, :, :, :, :12] = 1
            return torch.cat([1 - bright, bright], 1).clamp_min(1e-7).log()

    inferer = ReviewedInferer(SimpleInferer())
    found = inferer(torch.rand(1, 1, 24, 24, 24), Half())[0].argmax(0).bool()
    assert dice(take_second_view(found.shape) > 0, found) < 0.95


def test_nothing_is_turned_into_thick_slices():
    still = SecondView((16, 16, 6), (1.0, 1.0, 8.0)).matrix
    assert still[2, 2] == 1 and not still[2, :2].any() and not still[:2, 2].any() and still[0, 1]


def test_another_thread_or_no_wish_has_no_second_answer():
    inferer, found = ReviewedInferer(SimpleInferer()), []
    inferer(torch.rand(1, 1, 8, 8, 8), Threshold())
    other = threading.Thread(target=lambda: found.append(take_second_view((8, 8, 8))))
    other.start()
    other.join()
    assert found == [None] and take_second_view((8, 8, 8)) is not None
    inferer(torch.rand(1, 1, 8, 8, 8), Threshold())
    assert take_second_view((8, 8, 9)) is None  # of another scan
    once = ReviewedInferer(SimpleInferer(), wanted=False)
    inferer(torch.rand(1, 1, 8, 8, 8), Threshold())
    once(torch.rand(1, 1, 8, 8, 8), Threshold())
    assert take_second_view((8, 8, 8)) is None


def test_a_word_that_is_neither_is_refused():
    try:
        ReviewedInferer(SimpleInferer(), wanted="perhaps")
    except InputError as error:
        assert "review" in str(error) and "perhaps" in str(error)
    else:
        raise AssertionError("not refused")
