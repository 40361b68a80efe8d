from __future__ import annotations

import pytest
import torch

from common.levels.windows import probabilities, windowed


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        ((8, 8, 8), {(8, 8, 8)}),
        ((8, 8, 12), {(8, 8, 12)}),  # half as much again is seen at once
        ((8, 8, 32), {(8, 8, 8)}),
        ((4, 8, 8), {(8, 8, 8)}),  # less is filled up
    ],
)
def test_what_a_predictor_is_given(size, shapes):
    seen = set()

    def predictor(image: torch.Tensor) -> torch.Tensor:
        seen.add(tuple(image.shape[2:]))
        return image * 2

    image = torch.rand(1, 1, *size)
    torch.testing.assert_close(windowed(image, predictor, (8, 8, 8)), image * 2)
    assert seen == shapes


def test_probabilities_of_a_network():
    found = probabilities(lambda image: torch.cat([image, image], dim=1))(torch.rand(1, 1, 4, 4, 4))
    torch.testing.assert_close(found, torch.full((1, 2, 4, 4, 4), 0.5))
