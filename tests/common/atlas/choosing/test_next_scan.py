"""What a model does badly and what is unlike the labelled scans comes first; what is like nothing comes last."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.atlas.choosing.next_scan import choose_next, find_alone, likeness, predicted_quality, scan_distances
from common.atlas.choosing.reach import ScanReach

SIZE = (16, 16, 12)


def blob(radius: float, noise: int) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in SIZE), indexing="ij")
    far = sum((axis / r) ** 2 for axis, r in zip(axes, (radius, 0.8 * radius, 0.7 * radius), strict=True)).sqrt()
    image = 0.2 + 0.5 * torch.sigmoid(8 * (1 - far)) + 0.2 * (axes[0] > 0) * (far < 1)
    return (image + 0.01 * torch.randn(SIZE, generator=torch.Generator().manual_seed(noise)))[None]


def on_a_line(*places: float) -> tuple[list[str], np.ndarray]:
    """Return ids a, b, ... and the distances of points on a line."""
    points = np.array(places, dtype=float)
    return [chr(97 + n) for n in range(len(points))], np.abs(points[:, None] - points[None])


def test_quality_is_the_mean_over_the_labels_that_were_found():
    rows = [
        {"predicted_dice": "0.9", "volume_ml": "3"},
        {"predicted_dice": 0.5, "volume_ml": 1.0},
        {"predicted_dice": 0.0, "volume_ml": 0.0},
    ]
    assert predicted_quality(rows) == pytest.approx(0.7)
    assert predicted_quality(rows[2:]) == 0.0 == predicted_quality([])


def test_likeness_is_numpys_correlation_times_the_share_that_both_know():
    values = np.random.default_rng(0).normal(size=(3, 40))
    np.testing.assert_allclose(likeness(values, np.ones_like(values)), np.corrcoef(values), atol=1e-12)
    known = np.ones_like(values)
    known[1, 10:] = 0  # ten of forty voxels
    found = likeness(values * known, known)
    assert found[0, 1] == pytest.approx(np.corrcoef(values[0, :10], values[1, :10])[0, 1] * 2 * 10 / 50)
    assert found[0, 2] == pytest.approx(np.corrcoef(values[0], values[2])[0, 1])
    flat = likeness(np.stack([values[0], np.full(40, 0.3)]), np.ones((2, 40)))
    assert flat[0, 1] == 0


def test_distances_tell_the_odd_scan_by_images_alone_and_each_is_registered_twice():
    images = [{"case": f"{name}_scan", "image": blob(5 + 0.2 * n, n)} for n, name in enumerate("abc")]
    odd = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(7))
    images.append({"case": "odd", "image": odd})
    seen: list[int] = []
    ids, distances = scan_distances(ScanReach(images), lambda work: (seen.append(len(work)), work)[1])
    assert ids == ["a_scan", "b_scan", "c_scan", "odd"] and seen == [8]
    np.testing.assert_allclose(distances, distances.T)
    assert (distances.diagonal() == 0).all() and distances.max() <= 2
    assert distances[:3, :3].max() < 0.3 < distances[3, :3].min()
    again, same = scan_distances(ScanReach(images[::-1]))
    assert again == ids
    np.testing.assert_allclose(same, distances, atol=1e-5)


def test_a_scan_brought_to_itself_is_itself():
    scans = ScanReach([{"case": "a", "image": blob(5, 0)}, {"case": "b", "image": blob(5, 1)}])
    image, seen = scans.align("a", "a")
    assert torch.equal(image[0], scans.images[0]["image"]) and seen is None
    aligned, _ = scans.align("a", "b")
    assert aligned.shape == image.shape and not torch.equal(aligned, image)


def test_one_scan_like_no_other_is_alone_and_four_like_each_other_are_not():
    usual = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    _, distances = on_a_line(*usual, 9.0)
    assert find_alone(distances).tolist() == [False] * 7 + [True]
    _, distances = on_a_line(*usual, 9.0, 9.1, 9.2)  # three by chance
    assert find_alone(distances).tolist() == [False] * 7 + [True] * 3
    _, distances = on_a_line(*usual, 9.0, 9.1, 9.2, 9.3)
    assert not find_alone(distances).any()
    _, distances = on_a_line(0.0, 0.1, 0.2, 9.0)
    assert not find_alone(distances).any()


def test_the_product_decides_and_a_scan_beside_a_chosen_one_has_to_wait():
    ids, distances = on_a_line(0, 1, 2, 4, 4.1)  # the median of the ten distances is 2.05
    quality = {"b": 0.2, "c": 0.5, "d": 0.6, "e": 0.61}
    first, second, third, last = choose_next(quality, ids, distances, ["a"], 9)
    # (1 - q) d / 2.05: b .8, c 1.0, d 1.6, e 1.599; beside d, e has .39 * .1; c .5 * 2, b .8 * 1
    assert (first.case, first.quality, first.alone) == ("d", 0.6, False)
    assert first.unlike == pytest.approx(4 / 2.05)
    assert (second.case, third.case, last.case) == ("c", "b", "e")
    assert last.unlike == pytest.approx(0.1 / 2.05)
    assert [scan.case for scan in choose_next(quality, ids, distances, ["a"])] == ["d"]


def test_an_outlier_does_not_win_by_being_one():
    ids, distances = on_a_line(0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 50)
    quality = {"c": 0.9, "g": 0.9, "h": 0.0}
    found = choose_next(quality, ids, distances, ["a"], 3)
    assert [scan.case for scan in found] == ["g", "c", "h"] and [scan.alone for scan in found] == [False, False, True]


def test_without_a_label_the_worst_comes_first():
    ids, distances = on_a_line(0, 1, 2)
    found = choose_next({"a": 0.9, "b": 0.3, "c": 0.8}, ids, distances, [], 2)
    assert found[0] == ("b", 0.3, 1.0, False)
    assert found[1].case == "c" and found[1].unlike == 1.0
