from __future__ import annotations

import pytest
import torch

from common.imaging.uncertainty import normalized_entropy, tempered


@pytest.mark.parametrize("classes", [2, 5])
def test_certain_is_zero_and_a_guess_is_one(classes):
    certain = torch.eye(classes)[:, :1]
    guess = torch.full((classes, 1), 1 / classes)
    entropy = normalized_entropy(torch.cat([certain, guess], dim=1))
    assert torch.allclose(entropy, torch.tensor([0.0, 1.0]), atol=1e-6)


def test_classes_along_another_axis():
    probabilities = torch.softmax(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    assert torch.allclose(normalized_entropy(probabilities, dim=1), normalized_entropy(probabilities.T))


def test_a_temperature_divides_the_logarithms_and_1_changes_nothing():
    probabilities = torch.tensor([[0.8, 0.0], [0.2, 1.0]])
    assert tempered(probabilities, 1.0) is probabilities
    softer = tempered(probabilities, 2.0)
    assert softer[0, 0] == pytest.approx(0.8**0.5 / (0.8**0.5 + 0.2**0.5)) and softer[0, 1] < 1e-3
    assert torch.allclose(softer.sum(0), torch.ones(2)) and probabilities[0, 0] == pytest.approx(0.8)
    assert torch.allclose(tempered(probabilities.T, 2.0, dim=1), softer.T)
