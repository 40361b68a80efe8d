from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common.atlas.atlas import Atlas

SIZE = (12, 16, 10)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    label = torch.nn.functional.one_hot(torch.randint(0, 3, SIZE, generator=random), 3).movedim(-1, 0)[None].float()
    return label[:, 1:2] + 2 * label[:, 2:], label


def test_the_label_is_warped_exactly_as_the_image():
    image, label = pair()
    random = torch.Generator().manual_seed(1)
    affine = torch.eye(3, 4)[None] + 0.1 * torch.randn(1, 3, 4, generator=random)
    moved, exact = Atlas("a", image, label).aligned(affine, torch.randn(3, 6, 8, 5, generator=random))
    torch.testing.assert_close(moved[0], exact[1] + 2 * exact[2])
    assert not torch.allclose(moved, image[0], atol=0.1)
    torch.testing.assert_close(exact.sum(0), torch.ones(SIZE))


def test_without_a_field_nothing_moves():
    image, label = pair()
    moved, exact = Atlas("a", image, label).aligned(torch.eye(3, 4)[None])
    torch.testing.assert_close(moved, image[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(exact, label[0], rtol=0, atol=1e-4)


def test_a_scan_is_like_itself_where_it_was_scanned_and_unknown_beyond():
    image, label = pair()
    label[..., 8:] = 0
    atlas = Atlas("a", image, label)
    alike = atlas.similarity(image, torch.eye(3, 4)[None], torch.zeros(3, 6, 8, 5), torch.ones(1, 1, *SIZE))
    assert alike.shape == (1, *SIZE) and bool(alike[..., 8:].isnan().all())
    assert float(alike[..., :8].min()) > 0.95
    propagated, _ = atlas.propagate(torch.eye(3, 4)[None], torch.zeros(3, 6, 8, 5), torch.ones(1, 1, *SIZE))
    assert float(propagated[..., 8:].sum()) == 0


@pytest.mark.parametrize("coarse_steps", [0, 1])
def test_the_affine_follows_a_search_where_there_is_one(coarse_steps, monkeypatch):
    monkeypatch.setattr("common.atlas.atlas.register_affine", lambda *a, **k: torch.eye(3, 4)[None])
    noise = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    image = F.interpolate(noise, size=(24, 24, 24), mode="trilinear", align_corners=True)
    label = torch.cat([image < 0.5, image >= 0.5], dim=1).float()
    found = Atlas("atlas", image, label, coarse_steps=coarse_steps).find_affine(
        image.roll(-4, dims=2), torch.ones_like(image)
    )
    assert abs(float(found[0, 0, 3]) - (4 if coarse_steps else 0)) < 1
