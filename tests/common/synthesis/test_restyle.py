from __future__ import annotations

import torch

from common.synthesis.restyle import exchange_amplitude, match_histogram


def volumes() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.rand(1, 16, 16, 16, generator=random) ** 2, 0.3 + 0.4 * torch.rand(1, 16, 16, 16, generator=random)


def test_intensities_are_distributed_as_the_other_scan_s_and_keep_their_order():
    image, style = volumes()
    inside = torch.ones(1, 16, 16, 16, dtype=torch.bool)
    found = match_histogram(image, style, inside, inside)
    shares = torch.linspace(0.05, 0.95, 10)
    torch.testing.assert_close(found.quantile(shares), style.quantile(shares), rtol=0, atol=0.01)
    assert (found.flatten()[image.flatten().argsort()].diff() >= -1e-6).all()


def test_what_was_not_scanned_has_no_say():
    image, style = volumes()
    inside = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    inside[:, :8] = True
    found = match_histogram(image, style, inside, inside)
    image[:, 8:], style[:, 8:] = 1.0, 0.0
    torch.testing.assert_close(match_histogram(image, style, inside, inside)[:, :8], found[:, :8])
    assert torch.equal(match_histogram(image, style, inside, ~inside & inside), image)


def test_equal_intensities_stay_equal():
    image, style = volumes()
    image[:, :8] = 0.0
    inside = torch.ones(1, 16, 16, 16, dtype=torch.bool)
    assert match_histogram(image, style, inside, inside)[:, :8].unique().numel() == 1


def test_the_low_frequencies_are_the_other_s_and_the_structure_its_own():
    image, style = volumes()
    found = exchange_amplitude(image, style, share=0.0)  # the mean alone
    torch.testing.assert_close(found.mean(), style.mean(), rtol=0, atol=0.03)
    assert torch.corrcoef(torch.stack([found.flatten(), image.flatten()]))[0, 1] > 0.95
    torch.testing.assert_close(exchange_amplitude(image, image), image, rtol=0, atol=1e-5)
