from __future__ import annotations

import torch

from common.sam.features.slice_views import augment, make_views, stack_planes, view_transform


def disc(size: int = 40) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((y - 14) / 6) ** 2 + ((x - 22) / 9) ** 2 < 1).long()


def test_views_are_those_of_their_seeds_and_differ():
    mask = disc()
    planes = 0.6 * mask[None].float() + 0.2
    views = make_views(planes, mask, 4, 0, "case", 3)
    more = make_views(planes, mask, 6, 0, "case", 3)
    assert all(
        torch.equal(a.planes, b.planes) and torch.equal(a.mask, b.mask) for a, b in zip(views, more, strict=False)
    )
    assert stack_planes(views).shape == (4, 1, 40, 40)
    assert len({view.mask.sum().item() for view in more}) > 3
    assert not torch.equal(make_views(planes, mask, 1, 0, "case", 4)[0].planes, views[0].planes)
    assert torch.equal(mask, disc())


def test_image_and_mask_are_moved_alike_and_stay_what_they_are():
    mask = 2 * disc()
    planes = (0.4 * mask + 0.1).float().expand(3, -1, -1)
    for view in make_views(planes, mask, 8, 1):
        assert view.planes.shape == (3, 40, 40) and 0 <= view.planes.min() and view.planes.max() <= 1
        assert view.mask.dtype == torch.long and set(view.mask.unique().tolist()) == {0, 2}
        bright = view.planes[0] > (view.planes[0].min() + view.planes[0].max()) / 2
        overlap = 2 * (bright & (view.mask == 2)).sum() / (bright.sum() + (view.mask == 2).sum())
        assert overlap > 0.93


def test_without_rotation_and_scale_nothing_moves():
    still = view_transform(rotation=0.0, scale=0.0)
    still.set_random_state(seed=0)
    mask = disc()
    assert torch.equal(augment(still, mask[None].float(), mask).mask, mask)
