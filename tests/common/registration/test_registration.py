from __future__ import annotations

import pytest
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss
from torch.nn import functional as F

from common.registration.affine import register_affine
from common.registration.deformation import register_velocity
from common.registration.fields import (
    folding_percent,
    integrate,
    jacobian_determinant,
    smoothness,
    total_ddf,
    voxel_grid,
    warp,
    warp_known,
)
from common.registration.similarity import LocalNCCLoss, foreground_dice_loss, global_ncc

SIZE = (32, 28, 24)


def smooth_field(size, amplitude, channels=3, seed=0, sigma_grid=5):
    coarse = torch.randn(1, channels, *[sigma_grid] * 3, generator=torch.Generator().manual_seed(seed))
    return amplitude * F.interpolate(coarse, size=size, mode="trilinear", align_corners=True)


def anatomy(size=SIZE, shift=(0.0, 0.0, 0.0)):
    """Two nested ellipsoids on a textured ground: image [1, 1, ...] in [0, 1], one-hot label [1, 3, ...]."""
    grid = voxel_grid(size)[0]
    centred = [(grid[a] - (size[a] - 1) / 2 - shift[a]) / size[a] for a in range(3)]
    inner = sum((c / r) ** 2 for c, r in zip(centred, (0.28, 0.22, 0.26), strict=True)) < 1
    core = sum(((c - s) / r) ** 2 for c, s, r in zip(centred, (0.05, 0, 0), (0.12, 0.1, 0.1), strict=True)) < 1
    label = inner.long() + core.long()
    image = 0.2 + 0.3 * inner + 0.3 * core + smooth_field(size, 0.04, 1, 3, 9)[0, 0]
    image = F.avg_pool3d(image[None, None], 3, stride=1, padding=1, count_include_pad=False).clamp(0, 1)
    return image, F.one_hot(label, 3).permute(3, 0, 1, 2)[None].float()


def affine_of(degrees=8.0, scale=(1.08, 0.95, 1.0), translation=(2.0, -1.5, 1.0)):
    angle = torch.deg2rad(torch.tensor(degrees))
    turn = torch.eye(3)
    turn[:2, :2] = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    return torch.cat([turn @ torch.diag(torch.tensor(scale)), torch.tensor(translation)[:, None]], dim=1)[None]


def dice(pred, target):
    return 1 - float(foreground_dice_loss(pred, target))


@pytest.mark.parametrize("kernel_size", [3, 7, 9])
@pytest.mark.parametrize("size", [(12, 17, 9), (20, 16, 16)])
def test_local_ncc_equals_monai(kernel_size, size):
    torch.manual_seed(0)
    pred, target = torch.rand(2, 1, *size, requires_grad=True), torch.rand(2, 1, *size)
    ours = LocalNCCLoss(kernel_size)(pred, target)
    theirs = LocalNormalizedCrossCorrelationLoss(
        kernel_size=kernel_size, kernel_type="rectangular", smooth_nr=0.0, smooth_dr=1e-5
    )(pred, target)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(loss, pred)[0] for loss in (ours, theirs)), rtol=1e-3, atol=1e-6)


def test_local_ncc_per_case_is_that_of_each_case_alone():
    torch.manual_seed(0)
    pred, target, local = torch.rand(3, 1, 8, 9, 10), torch.rand(3, 1, 8, 9, 10), LocalNCCLoss(5)
    alone = torch.stack([local(pred[i : i + 1], target[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(local.per_case(pred, target), alone)


def test_local_ncc_stays_float32_under_bfloat16_autocast():
    image, _ = anatomy()
    other = (0.5 * image + 0.01 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    local = LocalNCCLoss(7)
    with torch.autocast("cpu", torch.bfloat16):
        inside = local(image, other)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, local(image, other))


def test_local_ncc_of_a_constant_volume_is_finite_and_so_is_its_gradient():
    constant = torch.full((1, 1, 8, 8, 8), 0.5, requires_grad=True)
    loss = LocalNCCLoss(3)(constant, torch.rand(1, 1, 8, 8, 8))
    loss.backward()
    assert loss.isfinite() and constant.grad.isfinite().all()


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="odd"):
        LocalNCCLoss(6)


def test_global_ncc_is_the_correlation():
    torch.manual_seed(0)
    a, b = torch.rand(2, 1, 4, 5, 6), torch.rand(2, 1, 4, 5, 6)
    wanted = [torch.corrcoef(torch.stack([a[i].flatten(), b[i].flatten()]))[0, 1] for i in range(2)]
    torch.testing.assert_close(global_ncc(a, b), torch.stack(wanted), rtol=0, atol=1e-5)
    torch.testing.assert_close(global_ncc(a, 1 - a), -torch.ones(2), rtol=0, atol=1e-5)


def test_smoothness_of_a_ramp():
    field = torch.zeros(1, 3, 4, 4, 4)
    field[:, 0] = 0.5 * torch.arange(4.0).view(4, 1, 1)
    assert float(smoothness(field)) == pytest.approx(0.25 / 3 / 3)  # one component of three, one axis of three
    assert float(smoothness(field + 7)) == pytest.approx(0.25 / 3 / 3)


def test_zero_velocity_is_the_identity_warp():
    image, _ = anatomy()
    ddf = integrate(torch.zeros(1, 3, *(n // 2 for n in SIZE)), SIZE)
    assert ddf.shape == (1, 3, *SIZE) and ddf.eq(0).all()
    torch.testing.assert_close(warp(image, ddf), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize("coarse", [SIZE, tuple(n // 2 for n in SIZE)])
def test_the_negated_velocity_inverts(coarse):
    velocity = smooth_field(coarse, 1.0 if coarse == SIZE else 0.5)
    there, back = integrate(velocity, SIZE), integrate(-velocity, SIZE)
    assert there.abs().max() > 1.0
    left_over = (there + warp(back, there)).norm(dim=1)[:, 4:-4, 4:-4, 4:-4]  # x + there(x) + back(x + there(x)) - x
    assert left_over.max() < 0.4 and left_over.mean() < 0.05 * there.norm(dim=1).mean()


def test_a_constant_velocity_is_a_translation_in_voxels_of_the_full_grid():
    velocity = torch.zeros(1, 3, 8, 8, 8)
    velocity[:, 1] = 1.0
    ddf = integrate(velocity, (16, 16, 16))
    torch.testing.assert_close(ddf[:, 1], torch.full((1, 16, 16, 16), 15 / 7), rtol=0, atol=1e-5)
    assert ddf[:, [0, 2]].eq(0).all()


def test_warp_samples_at_the_voxel_plus_the_ddf_and_repeats_the_border():
    image = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 1, 5, 4, 4)
    ddf = torch.zeros(1, 3, 5, 4, 4)
    ddf[:, 0] = 2.0
    torch.testing.assert_close(warp(image, ddf)[0, 0, :, 0, 0], torch.tensor([2.0, 3, 4, 4, 4]), rtol=0, atol=1e-5)


def test_total_ddf_equals_two_successive_warps():
    image = voxel_grid(SIZE)  # coordinates as image: linear interpolation is exact
    affine, ddf = affine_of(5.0, (1.03, 0.98, 1.0), (1.0, -0.5, 0.7)), smooth_field(SIZE, 1.0, seed=1)
    twice = warp(warp(image, total_ddf(affine, None, SIZE)), ddf)
    once = warp(image, total_ddf(affine, ddf, SIZE))
    inner = (..., slice(5, -5), slice(5, -5), slice(5, -5))
    torch.testing.assert_close(once[inner], twice[inner], rtol=0, atol=1e-3)
    wrong_order = warp(warp(image, ddf), total_ddf(affine, None, SIZE))
    assert (once - wrong_order)[inner].abs().max() > 0.1


def test_total_ddf_turns_about_the_centre_of_the_grid():
    affine = torch.tensor([[[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]])
    ddf = total_ddf(affine, None, (5, 4, 3))
    torch.testing.assert_close(ddf[0, 0, :, 0, 0], torch.tensor([-2.0, -1, 0, 1, 2]))
    assert ddf[0, 1:].abs().max() < 1e-6


def test_a_known_affine_is_recovered():
    moving, _ = anatomy()
    wanted = affine_of()
    fixed = warp(moving, total_ddf(wanted, None, SIZE))
    before = total_ddf(wanted, None, SIZE).norm(dim=1)
    with torch.no_grad():  # as inside an evaluation
        found = register_affine(fixed, moving)
    error = (total_ddf(found, None, SIZE) - total_ddf(wanted, None, SIZE)).norm(dim=1)
    inner = (..., slice(6, -6), slice(6, -6), slice(6, -6))
    assert not found.requires_grad and found.shape == (1, 3, 4)
    assert before[inner].mean() > 2.0 and error[inner].mean() < 0.5


def deformed_pair():
    moving, label = anatomy()
    truth = integrate(smooth_field(SIZE, 1.5, seed=2), SIZE)
    return warp(moving, truth), moving, label, warp(label, truth)


def test_register_velocity_raises_similarity_without_folding():
    fixed, moving, label, truth = deformed_pair()
    with torch.no_grad():
        velocity = register_velocity(fixed, moving, steps=50)
    assert velocity.shape == (1, 3, *(n // 2 for n in SIZE)) and not velocity.requires_grad
    ddf, local = integrate(velocity, SIZE), LocalNCCLoss()
    assert -local(warp(moving, ddf), fixed) > -local(moving, fixed) + 0.1
    assert dice(warp(label, ddf), truth) > dice(label, truth) + 0.05
    assert float(folding_percent(ddf)) < 0.1


def test_register_velocity_goes_on_from_an_affine_and_a_velocity():
    fixed, moving, _, _ = deformed_pair()
    first = register_velocity(fixed, moving, steps=20)
    kept = first.clone()
    second = register_velocity(fixed, moving, steps=20, velocity=first, coarse_steps=0)
    local = LocalNCCLoss()
    assert local(warp(moving, integrate(second, SIZE)), fixed) < local(warp(moving, integrate(first, SIZE)), fixed)
    assert torch.equal(first, kept)
    assert torch.equal(register_velocity(fixed, moving, steps=0, velocity=first, coarse_steps=0), first)
    third = register_velocity(fixed, moving, steps=0, velocity=first, coarse_steps=10)  # descriptors go on from it, too
    assert not torch.equal(third, first) and float((third - first).abs().max()) < 1.5


def test_a_guide_improves_dice():
    _, moving, label, truth = deformed_pair()
    poor = 0.3 + 0.05 * smooth_field(SIZE, 1.0, channels=1, seed=7)  # a scan without contrast: only the guide can help
    plain = register_velocity(poor, moving, steps=25)
    guided = register_velocity(poor, moving, steps=25, fixed_probabilities=truth, moving_probabilities=label)
    scores = [dice(warp(label, integrate(v, SIZE)), truth) for v in (plain, guided)]
    assert scores[1] > scores[0] + 0.05


def test_jacobian_of_a_scaling_is_exact():
    grid = voxel_grid((6, 5, 4))
    ddf = grid * torch.tensor([0.5, -0.25, 1.0]).view(1, 3, 1, 1, 1)
    determinant = jacobian_determinant(ddf)
    assert determinant.shape == (1, 5, 4, 3)
    torch.testing.assert_close(determinant, torch.full_like(determinant, 1.5 * 0.75 * 2.0))


def test_folding_percent_finds_a_fold_made_by_hand():
    ddf = torch.zeros(2, 3, 5, 4, 4)
    assert folding_percent(ddf).tolist() == [0.0, 0.0]
    ddf[1, 0, 2:] = -2.0  # between planes 1 and 2 space turns over: one of four steps along the axis
    assert folding_percent(ddf).tolist() == [0.0, 25.0]


def test_foreground_dice_loss_by_hand():
    target = F.one_hot(torch.tensor([[[[0, 1, 1, 2]]]]), 3).permute(0, 4, 1, 2, 3).float()
    pred = F.one_hot(torch.tensor([[[[0, 1, 0, 2]]]]), 3).permute(0, 4, 1, 2, 3).float()
    assert float(foreground_dice_loss(pred, target)) == pytest.approx(1 - (2 / 3 + 1) / 2)
    assert float(foreground_dice_loss(target, target)) == pytest.approx(0)


def test_what_was_not_scanned_has_no_say_in_the_similarity():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 2, 1, 10, 11, 12, generator=generator)
    known = torch.zeros(2, 1, 10, 11, 12)
    known[:, :, 2:9, :, 3:9] = 1
    loss = LocalNCCLoss(5)
    similar = loss.per_case(pred, target, known), global_ncc(pred, target, known)
    cut = [one[:, :, 2:9, :, 3:9] for one in (pred, target)]
    torch.testing.assert_close(similar[1], global_ncc(*cut))
    garbage = [torch.where(known > 0, one, torch.rand(one.shape, generator=generator)) for one in (pred, target)]
    torch.testing.assert_close(loss.per_case(*garbage, known), similar[0])
    torch.testing.assert_close(loss.per_case(pred, pred, known), torch.full((2,), -1.0), rtol=0, atol=2e-2)
    # windows at the end of the scan count its own voxels, as they do at the end of the grid
    torch.testing.assert_close(similar[0], loss.per_case(*cut, torch.ones_like(cut[0])))


@pytest.mark.parametrize("which", ["fixed", "moving", "both"])
def test_a_shorter_scan_is_registered_by_what_it_has(which):
    """Its edge is repeated over half of the grid, as the edge of thick slices is; what is there still fits."""
    moving, fixed = (anatomy(shift=shift)[0] for shift in ((0.0, 0.0, 0.0), (3.0, 0.0, 0.0)))
    known, end = torch.zeros_like(fixed[:, :1]), fixed.shape[-1] // 2
    known[..., :end] = 1
    fixed, moving = (
        torch.cat([one[..., :end], one[..., end - 1 : end].expand_as(one)[..., end:]], -1)
        if which in (name, "both")
        else one
        for name, one in (("fixed", fixed), ("moving", moving))
    )
    given = {f"{name}_known": known if which in (name, "both") else None for name in ("fixed", "moving")}
    affine = register_affine(fixed, moving, **given)
    velocity = register_velocity(fixed, moving, affine, steps=5, coarse_steps=20, **given)
    size = tuple(fixed.shape[2:])
    warped, both = warp_known(moving, total_ddf(affine, integrate(velocity, size), size), *given.values())
    assert set(both.unique().tolist()) <= {0.0, 1.0} and both[..., end + 2 :].max() == 0
    before, after = (global_ncc(one, fixed, both) for one in (moving, warped))
    assert after > 0.9 and after > before + 0.05
