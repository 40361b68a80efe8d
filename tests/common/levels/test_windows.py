from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet

from common.levels import windows
from common.levels.windows import probabilities, to_probabilities, windowed, windowed_rows


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


@pytest.mark.parametrize("size", [(8, 8, 8), (21, 9, 8), (8, 30, 8), (5, 8, 17), (33, 3, 4), (9, 8, 8), (40, 20, 11)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_row_by_row_is_what_monai_gives_at_once(size, overlap):
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    step = torch.arange(8.0).view(8, 1, 1)

    def predictor(window: torch.Tensor) -> torch.Tensor:  # what a window says hangs on its place in it
        values = window * 3 + (step if window.shape[2:] == (8, 8, 8) else 0)
        return torch.softmax(torch.cat([values, 1 - values, values**2], dim=1), dim=1)

    found = torch.full((1, 3, *size), torch.nan)
    for rows, part in windowed_rows(image, predictor, (8, 8, 8), overlap):
        assert found[:, :, rows].isnan().all()
        found[:, :, rows] = part
    torch.testing.assert_close(found, windowed(image, predictor, (8, 8, 8), overlap), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(17, 16, 18), (16, 20, 16), (9, 16, 17)])
def test_what_is_seen_at_once_fits_the_steps_of_a_body(size):
    torch.manual_seed(0)
    body = UNet(3, 1, 2, (4, 4, 4, 4), (2, 2, 2)).eval()  # of these sizes its skip connections don't fit
    image = torch.rand(1, 1, *size)
    seen = set()

    def predictor(part: torch.Tensor) -> torch.Tensor:
        seen.add(tuple(part.shape[2:]))
        return torch.softmax(body(part), dim=1)

    found = torch.full((1, 2, *size), torch.nan)
    with torch.no_grad():
        for rows, part in windowed_rows(image, predictor, (16, 16, 16), 0.5):
            found[:, :, rows] = part
    assert all(n % 16 == 0 for shape in seen for n in shape)
    torch.testing.assert_close(found.sum(1), torch.ones(1, *size))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_many_logits_become_probabilities_where_they_lie(kind, monkeypatch):
    logits = torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0)).to(kind)
    wanted = torch.softmax(logits.float(), dim=1)
    few = to_probabilities(logits)
    assert few.dtype == torch.float32 and torch.equal(few, wanted) and few is not logits
    monkeypatch.setattr(windows, "LARGE", 100)
    many = to_probabilities(logits)
    torch.testing.assert_close(many.float(), wanted, atol=1e-3, rtol=0)
    assert (many is logits) == (kind != torch.bfloat16)  # in which few digits are left
