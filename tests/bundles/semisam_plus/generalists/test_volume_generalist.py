from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.bundle.path import import_bundle

VolumeGeneralist = import_bundle("semisam_plus", "generalists.volume_generalist").VolumeGeneralist
click_loop = import_bundle("semisam_plus", "generalists.click_loop").click_loop
InputError = import_bundle("semisam_plus", "common.errors").InputError
build_sam_med3d = import_bundle("semisam_plus", "common.sam.med3d.build").build_sam_med3d


class FakeMed3D(nn.Module):
    """Learns by heart: its mask is a ball around the positive clicks so far, less one around the negative ones."""

    name, image_size, mask_size = "fake_3d", 32, 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)
        self.clicks, self.masks, self.volumes = [], [], []

    def encode(self, volume, amp=None):
        self.volumes.append(volume)
        return F.avg_pool3d(volume, 16).expand(-1, 4, -1, -1, -1) * self.weight

    def decode(self, embedding, points=None, mask=None):
        self.clicks.append(points)
        self.masks.append(mask)
        if points is None:
            return mask
        grid = torch.stack(torch.meshgrid(*[torch.arange(8) * 4 + 1.5] * 3, indexing="ij"), -1)
        near = (grid - points[0][:, 0].view(-1, 1, 1, 1, 3)).norm(dim=-1) < 7
        sign = torch.where(points[1][:, 0] == 1, 1.0, -1.0).view(-1, 1, 1, 1)
        start = torch.where(mask.flatten(1).any(1).view(-1, 1, 1, 1, 1), mask, torch.full_like(mask, -4.0))
        return torch.where(near[:, None], sign[:, None] * 4, start)


def balls(size=(32, 32, 32)) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(n) + 0.5 for n in size], indexing="ij"), -1)
    near = [(grid - torch.tensor(centre)).norm(dim=-1) < 6 for centre in ((10.0, 10, 16), (22.0, 20, 16))]
    q = torch.stack([~(near[0] | near[1]), *near]).float()
    return q * 0.9 + 0.05


def test_the_click_loop_goes_on_from_its_last_mask() -> None:
    sam = FakeMed3D()
    asked = VolumeGeneralist(sam, clicks=5)
    q = balls()
    answer = asked.answer(asked.embed(torch.rand(1, 1, 32, 32, 32)), q)
    assert answer.members.shape == (5, 2, 32, 32, 32) and answer.asked.all() and answer.improving
    assert answer.foreground.equal(answer.members[-1])
    assert not sam.masks[0].any() and sam.masks[0].shape == (2, 1, 8, 8, 8)  # zeros, not None
    for earlier, mask in zip(answer.members, sam.masks[1:], strict=False):
        up = F.interpolate(mask, [32] * 3, mode="trilinear", align_corners=False)[:, 0].sigmoid()
        torch.testing.assert_close(earlier, up)
    # one new click at a time; its label is what the specialist says there, or it would be no error
    for number, (voxels, labels) in enumerate(sam.clicks):
        assert voxels.shape == (2, 1, 3) and labels.shape == (2, 1)
        for index in range(2):
            x, y, z = voxels[index, 0].long().tolist()
            inside = bool(q[1 + index, x, y, z] > 0.5)
            assert inside == bool(labels[index, 0])
            if number:
                assert bool(answer.members[number - 1, index, x, y, z] > 0.5) != inside
    assert (
        VolumeGeneralist(FakeMed3D(), clicks=5, keep_last=2)
        .answer(asked.embed(torch.rand(1, 1, 32, 32, 32)), q)
        .members.equal(answer.members[-2:])
    )


def test_clicks_of_a_class_do_not_depend_on_the_others() -> None:
    asked = VolumeGeneralist(FakeMed3D(), clicks=3)
    embedding = asked.embed(torch.rand(1, 1, 32, 32, 32))
    alone = balls()
    alone[1] = 0
    found = asked.answer(embedding, alone)
    assert found.asked.tolist() == [False, True] and not found.members[:, 0].any()
    torch.testing.assert_close(found.members[:, 1], asked.answer(embedding, balls()).members[:, 1])


def test_a_first_click_can_be_kept_to_confident_voxels() -> None:
    q = torch.full((1, 32, 32, 32), 0.05)
    q[:, 4:20, 4:20, 4:20] = 0.6
    q[:, 28:30, 28:30, 28:30] = 0.99
    sam = FakeMed3D()
    click_loop(sam, torch.zeros(1), q, 1, [torch.Generator().manual_seed(0)], confidence=0.9)
    assert sam.clicks[0][0].min() >= 28


def test_independent_clicks_and_mask_prompts() -> None:
    points = VolumeGeneralist(FakeMed3D(), "points", clicks=4)
    embedding = points.embed(torch.rand(1, 1, 32, 32, 32))
    answer = points.answer(embedding, balls())
    assert answer.members.shape[0] == 4 and not answer.improving
    assert not answer.members[0].equal(answer.members[1])
    assert not any(mask.any() for mask in points.sam.masks)
    mask = VolumeGeneralist(FakeMed3D(), "mask")
    answer = mask.answer(embedding, balls())
    assert answer.members.shape[0] == 1 and mask.sam.clicks == [None]
    assert mask.sam.masks[0].min() < -2.5 and mask.sam.masks[0].max() > 2.5  # logits of .05 and .95
    assert ((answer.members[0] > 0.5) & (balls()[1:] > 0.5)).sum() > 0.7 * (balls()[1:] > 0.5).sum()


@pytest.mark.parametrize(
    "size, spacing, pixdim",
    [
        ((20, 28, 24), None, None),
        ((40, 20, 36), None, None),
        ((10, 14, 20), 1.5, (3.0, 3.0, 1.5)),
        ((60, 40, 50), 2.0, (1.0, 1.0, 1.0)),
    ],
)
def test_masks_come_back_where_the_volume_was(size, spacing, pixdim) -> None:
    asked = VolumeGeneralist(FakeMed3D(), "mask", spacing=spacing, pixdim=pixdim)
    window = asked.window(size)
    maps = torch.zeros(1, *size)
    part = tuple(slice(n // 3, 2 * n // 3) for n in size)
    maps[(0, *part)] = 1
    cube = window.to_cube(maps)
    assert cube.shape == (1, 32, 32, 32) and cube.max() > 0.9
    back = window.to_volume(cube, torch.full_like(maps, 0.25))
    centre = tuple((n // 3 + 2 * n // 3) // 2 for n in size)
    assert back[(0, *centre)] > 0.9
    moments = [(m[0].nonzero().float().mean(0)) for m in (maps > 0.5, (back > 0.5))]
    assert (moments[0] - moments[1]).abs().max() < 0.51
    # what the cube does not see is the specialist's own
    seen = all(n <= 32 for n in window.resampled)
    assert bool((back[0, 0] == 0.25).any()) != seen


def test_the_volume_is_padded_then_normalised() -> None:
    sam = FakeMed3D()
    image = torch.rand(1, 1, 20, 20, 20) * 0.5 + 0.25
    VolumeGeneralist(sam).embed(image)
    inner = sam.volumes[0][..., 6:26, 6:26, 6:26]
    assert abs(inner.mean()) < 1e-4 and abs(inner.std() - 1) < 1e-3
    assert sam.volumes[0][0, 0, 0, 0, 0] < inner.min()  # padding is zero before the normalisation


def test_a_real_sam_med3d_of_random_weights_answers() -> None:
    torch.manual_seed(0)
    tiny = {"image_size": 32, "patch_size": 8, "embedding_channels": 48, "mlp_channels": 32, "channels": 24}
    sam = build_sam_med3d("sam_med3d", pretrained=False, depth=1, heads=3, global_blocks=(), window=5, **tiny)
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    asked = VolumeGeneralist(sam, clicks=3)
    answer = asked.answer(asked.embed(torch.rand(1, 1, 20, 30, 36)), balls((20, 30, 36)).requires_grad_())
    assert answer.members.shape == (3, 2, 20, 30, 36) and answer.members.isfinite().all()
    assert not answer.members.requires_grad and all(p.grad is None for p in sam.parameters())
    assert all(value.equal(before[name]) for name, value in sam.state_dict().items())


def test_bad_settings_are_said() -> None:
    with pytest.raises(InputError, match=r"prompt: found 'box'[^\n]*\n[^\n]*found 0[^\n]*\npixdim: found None"):
        VolumeGeneralist(FakeMed3D(), "box", clicks=0, spacing=1.5)
