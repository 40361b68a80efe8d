from __future__ import annotations

import pytest
import torch

from common.grid.grid import Level, read_grid
from common.grid.network import BodyNetwork
from common.levels.network import CoarseView, LocateThenSegment, locate_then_segment
from common.levels.windows import windowed_rows
from support.networks.bright import Bright

STEPS = ((2, 2, 2), (2, 2, 1))


@pytest.fixture
def network() -> LocateThenSegment:
    coarse = BodyNetwork(Bright(0.2), (8, 8, 8), (8.0, 8.0, 8.0), (0, 1), STEPS)
    fine = BodyNetwork(Bright(0.5), (8, 8, 8), (2.0, 2.0, 2.0), (0, 1), STEPS)
    return LocateThenSegment(coarse, fine)


def test_a_structure_is_found_in_a_scan_larger_than_any_window_and_segmented_finely(network):
    image = torch.zeros(1, 1, 96, 40, 40)
    image[..., 70:82, 12:24, 20:30] = 1.0
    found = network(image).exp()
    assert found.shape == (1, 2, 96, 40, 40)
    assert torch.equal(found[0, 1] > 0.5, image[0, 0] > 0.5)
    assert all(shape == (8, 8, 8) for shape in network.fine.body.seen)
    whole = 96 * 40 * 40 / 8**3
    assert len(network.fine.body.seen) < whole / 2  # not everywhere


def test_a_scan_without_the_structure_is_background_and_the_fine_network_not_asked(network):
    found = network(torch.zeros(2, 1, 24, 24, 24))
    assert bool((found.argmax(1) == 0).all()) and found.shape == (2, 2, 24, 24, 24)
    assert not network.fine.body.seen


def test_a_scan_smaller_than_a_window(network):
    image = torch.zeros(1, 1, 6, 7, 5)
    image[..., 1:, 1:, 1:] = 1.0
    assert torch.equal(network(image).argmax(1), (image[:, 0] > 0.5).long())


def test_its_state_tells_the_grid_of_both_levels(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "model.pt")
    grid = read_grid(str(tmp_path / "model.pt"), {})
    assert (grid.spatial_size, grid.pixdim, grid.label_values) == ((8, 8, 8), (8.0, 8.0, 8.0), (0, 1))
    assert grid.strides == STEPS and grid.fine == Level((8, 8, 8), (2.0, 2.0, 2.0), STEPS)
    assert grid.finest is grid.fine


def test_an_only_level_is_deployed_as_it_is(network):
    assert locate_then_segment(network.coarse, None) is network.coarse
    assert isinstance(locate_then_segment(network.coarse, network.fine), LocateThenSegment)


def test_coarse_voxels_lie_where_they_say(network):
    view = CoarseView((40, 24, 30), (2.0, 2.0, 3.0), (8.0, 8.0, 9.0), (8, 8, 8))
    ramp = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in (40, 24, 30)), indexing="ij"))
    seen, back = view.resample(ramp), torch.linalg.inv(view.to_coarse()).float()
    inner = (slice(4, 6),) * 3  # away from the border, where smoothing bends the ramp
    index = torch.stack(torch.meshgrid(*(torch.arange(4.0, 6.0),) * 3, indexing="ij"))
    expected = index * back.diagonal()[:3].view(3, 1, 1, 1) + back[:3, 3].view(3, 1, 1, 1)
    torch.testing.assert_close(seen[(slice(None), *inner)], expected, atol=0.2, rtol=0)


def test_what_would_be_too_large_is_answered_in_half_the_memory(network, monkeypatch):
    image = torch.rand(1, 1, 30, 20, 20, generator=torch.Generator().manual_seed(0))
    whole = network(image)
    monkeypatch.setattr("common.levels.network.LARGE", 1000)
    half = network(image)
    assert (whole.dtype, half.dtype) == (torch.float32, torch.float16) and half.isfinite().all()
    torch.testing.assert_close(half.float().exp(), whole.exp(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("many", "shares"), [(1000, 0.5), (1, 0.25)])
def test_windows_of_a_small_region_overlap_more(network, monkeypatch, many, shares):
    monkeypatch.setattr("common.levels.network.MANY", many)
    asked = []

    def rows(image, predictor, window, overlap):
        asked.append(overlap)
        return windowed_rows(image, predictor, window, overlap)

    monkeypatch.setattr("common.levels.network.windowed_rows", rows)
    image = torch.zeros(1, 1, 60, 60, 60)
    image[:, :, 10:50, 10:50, 10:50] = 1
    network(image)
    network.overlap = 0.1
    network(image)
    assert asked == [shares, 0.1]
