from __future__ import annotations

import math
import time

import pytest
import torch

from common.errors import InputError
from common.imaging.affinity_walk import edge_weights, half_offsets, intensity_guide, walk


def seeded(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def dense(weights: torch.Tensor, offsets: list[tuple[int, int, int]]) -> torch.Tensor:
    """The matrix of all pairs [N, N], ones on its diagonal, from edges at the voxel where they start."""
    size = weights.shape[1:]
    number = torch.arange(math.prod(size)).view(size)
    matrix = torch.eye(number.numel(), dtype=torch.float64)
    for weight, offset in zip(weights, offsets, strict=True):
        for start in weight.nonzero().tolist():
            end = [a + b for a, b in zip(start, offset, strict=True)]
            i, j = number[tuple(start)], number[tuple(end)]  # an edge out of the volume raises, or wraps to a wrong one
            assert min(end) >= 0
            matrix[i, j] = matrix[j, i] = weight[tuple(start)]
    return matrix


def test_half_offsets_are_the_published_disc_and_the_nine_between_slices():
    flat = half_offsets(5, axis=2, between=0)
    assert len(flat) == 34 and all(z == 0 for _, _, z in flat)
    assert len(half_offsets(5, axis=0, between=1)) == 43
    assert {o[0] for o in half_offsets(5, axis=0, between=0)} == {0}
    around = half_offsets(2, axis=1, between=1)
    both = {tuple(s * step for step in o) for o in around for s in (1, -1)}
    assert len(around) == 13 and len(both) == 26 and max(max(map(abs, o)) for o in both) == 1


def test_half_offsets_of_nothing_are_an_error():
    with pytest.raises(InputError, match="axis 3"):
        half_offsets(2, axis=3)
    with pytest.raises(InputError, match="neighbour"):
        half_offsets(1, axis=2, between=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_averaging_walk_equals_the_dense_matrix(axis):
    offsets = half_offsets(3, axis, between=1)
    weights = edge_weights(seeded(2, 4, 5, 3), offsets, beta=2.0, sigma_mm=4.0, pixdim=(1, 2, 1.5))
    matrix = dense(weights, offsets)
    average = matrix / matrix.sum(1, keepdim=True)
    maps = seeded(2, 4, 5, 3, seed=1)
    start = current = maps.flatten(1).double().T
    for _ in range(5):
        current = 0.8 * average @ current + 0.2 * start
    found = walk(maps, weights, offsets, steps=5, restart=0.2)
    assert torch.allclose(found.flatten(1).T.double(), current, atol=1e-6)


def test_published_walk_equals_the_dense_matrix_slice_by_slice():
    size, radius, beta = (9, 11, 2), 5, 4.0
    offsets = half_offsets(radius, axis=2, between=0)
    guide, maps = seeded(1, *size) * 2, seeded(1, *size, seed=1)
    weights = edge_weights(guide, offsets, beta, legacy_border=True)
    found = walk(maps, weights, offsets, steps=4, restart=0.0, averaging=False, rescale=True)
    for z in range(2):
        values = guide[0, :, :, z].flatten().double()
        rows, columns = (grid.flatten() for grid in torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij"))
        down, right = rows[None] - rows[:, None], columns[None] - columns[:, None]  # [from, to]
        half = ((down == 0) & (right >= 1)) | (down >= 1)
        # the published pairs start in the rows 0 to H - R and the columns R - 1 to W - R
        starts = (rows <= 9 - radius) & (columns >= radius - 1) & (columns <= 11 - radius)
        edges = half & (down**2 + right**2 < radius**2) & starts[:, None]
        affinity = torch.where(edges | edges.T, torch.exp(-(values[None] - values[:, None]).abs()), 0.0)
        affinity = (affinity + torch.eye(99)) ** beta
        transition = affinity / affinity.sum(0, keepdim=True)
        current = maps[0, :, :, z].flatten().double()
        for _ in range(4):
            current = transition @ current
            current = (current - current.min()) / (current.max() - current.min())
        assert torch.allclose(found[0, :, :, z].flatten().double(), current, atol=1e-5)


def test_handing_out_keeps_the_sum_and_averaging_keeps_a_constant():
    offsets = half_offsets(5, axis=2)
    weights = edge_weights(seeded(1, 8, 9, 5), offsets, beta=4.0)
    maps = seeded(3, 8, 9, 5, seed=1)
    handed = walk(maps, weights, offsets, 6, restart=0.0, averaging=False)
    assert torch.allclose(handed.flatten(1).sum(1), maps.flatten(1).sum(1), rtol=1e-5)
    constant = torch.full((1, 8, 9, 5), 0.3)
    assert torch.allclose(walk(constant, weights, offsets, 12), constant, atol=1e-6)
    border = edge_weights(seeded(1, 8, 9, 5), offsets, beta=4.0, legacy_border=True)
    assert torch.allclose(walk(constant, border, offsets, 12), constant, atol=1e-6)


def test_without_links_between_slices_a_volume_is_its_slices():
    offsets = half_offsets(3, axis=1, between=0)
    guide, maps = seeded(1, 6, 4, 7), seeded(2, 6, 4, 7, seed=1)
    whole = walk(maps, edge_weights(guide, offsets), offsets, rescale=True)
    for y in range(4):
        one = slice(y, y + 1)
        alone = walk(maps[:, :, one], edge_weights(guide[:, :, one], offsets), offsets, rescale=True)
        assert torch.allclose(whole[:, :, one], alone, atol=1e-6)


def test_a_grid_narrower_than_the_neighbourhood():
    offsets = half_offsets(5, axis=2)
    weights = edge_weights(seeded(1, 3, 2, 1), offsets, beta=1.0)
    matrix = dense(weights, offsets)
    maps = seeded(1, 3, 2, 1, seed=1)
    expected = (matrix / matrix.sum(1, keepdim=True)) @ maps.flatten().double()
    assert torch.allclose(walk(maps, weights, offsets, 1, restart=0.0).flatten().double(), expected, atol=1e-6)


def test_a_partial_map_fills_the_structure_and_stays_inside():
    y, x = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    disc = ((y - 12) ** 2 + (x - 12) ** 2 < 49)[None, :, :, None].float()
    partial = disc * (x < 11)[None, :, :, None]
    offsets = half_offsets(3, axis=2, between=0)
    guided, blurred = (
        walk(partial, edge_weights(disc, offsets, beta), offsets, steps=12, restart=0.0) for beta in (6.0, 0.0)
    )
    outside, missing = disc == 0, (disc == 1) & (partial == 0)
    assert guided[outside].sum() < 0.2 * blurred[outside].sum()
    assert guided[missing].mean() > blurred[missing].mean()


def test_forbidden_voxels_neither_give_nor_take():
    allowed = torch.ones(1, 4, 4, 6, dtype=torch.bool)
    allowed[..., 3:] = False
    maps = torch.zeros(1, 4, 4, 6)
    maps[..., :3] = 1.0
    offsets = half_offsets(2, axis=2)
    assert walk(maps, edge_weights(torch.zeros(1, 4, 4, 6), offsets, allowed=allowed), offsets, 9).equal(maps)
    assert not walk(maps, edge_weights(torch.zeros(1, 4, 4, 6), offsets), offsets, 9).equal(maps)


def test_links_weaken_with_millimetres_along_the_axes_that_count():
    offsets = [(0, 1, 0), (0, 0, 1), (0, 0, 2)]
    guide = torch.zeros(1, 1, 3, 3)
    far = edge_weights(guide, offsets, pixdim=(1, 1, 3), sigma_mm=[None, None, 3.0])
    assert far[:, 0, 0, 0].tolist() == pytest.approx([1.0, math.exp(-1), math.exp(-4)])
    everywhere = edge_weights(guide, offsets, pixdim=(1, 1.5, 3), sigma_mm=3.0)
    assert everywhere[:, 0, 0, 0].tolist() == pytest.approx([math.exp(-0.25), math.exp(-1), math.exp(-4)])


def test_channels_are_averaged_or_summed():
    guide = torch.zeros(2, 1, 2, 1)
    guide[0, 0, 1], guide[1, 0, 1] = 1.0, 0.5
    weights = [edge_weights(guide, [(0, 1, 0)], 2.0, reduce=reduce)[0, 0, 0, 0] for reduce in ("mean", "sum")]
    assert [float(w) for w in weights] == pytest.approx([math.exp(-1.5), math.exp(-3)])
    with pytest.raises(InputError, match="median"):
        edge_weights(guide, [(0, 1, 0)], reduce="median")
    with pytest.raises(InputError, match="int64"):
        edge_weights(guide.long(), [(0, 1, 0)])


def test_intensity_is_measured_in_its_own_deviation():
    image = torch.zeros(1, 6, 6, 6)
    image[:, 1:5] = 0.3 + 0.4 * seeded(1, 4, 6, 6)
    guide = intensity_guide(image)
    assert float(guide[:, 1:5].std()) == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose(intensity_guide(image * 0.5), guide, atol=1e-5)
    inside = torch.zeros_like(image, dtype=torch.bool)
    inside[:, 1:3] = True
    assert float(intensity_guide(image, inside)[inside].std()) == pytest.approx(1.0, abs=1e-4)
    assert intensity_guide(torch.zeros(1, 2, 2, 2)).isfinite().all()


def test_shapes_that_do_not_belong_together():
    with pytest.raises(InputError, match="1 offsets"):
        walk(torch.zeros(1, 4, 4, 4), torch.zeros(2, 4, 4, 4), [(0, 0, 1)])


def test_a_volume_of_the_usual_grid_takes_less_than_a_second():
    offsets = half_offsets(5, axis=2)
    guide, maps = seeded(1, 64, 48, 32), seeded(2, 64, 48, 32)
    start = time.process_time()
    walk(maps, edge_weights(guide, offsets), offsets, steps=10)
    assert time.process_time() - start < 5  # 0.1 on one core; a matrix of all pairs would not even fit
