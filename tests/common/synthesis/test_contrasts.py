from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.synthesis.contrasts import RandContrastsd, class_shares, find_clusters

SIZE = (12, 14, 10)


def scan() -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image [1, ...] and its classes [1, ...]: air, tissue of one intensity, and an organ of the same."""
    image, label = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE, dtype=torch.uint8)
    image[:, 2:10, 2:12, 2:8] = 0.5
    label[:, 4:8, 5:9, 3:7] = 1
    return image, label


def seeded(seed: int, **settings) -> RandContrastsd:
    transform = RandContrastsd(noise=0.0, **settings)
    transform.set_random_state(seed)
    return transform


def test_an_organ_parts_from_tissue_of_its_own_intensity_and_stays_of_one_value():
    image, label = scan()
    parted = []
    for seed in range(12):
        found = seeded(seed, classes=2)({"image": image, "label": label})["image"]
        assert found.shape == image.shape and found.dtype == torch.float32
        organ, tissue = found[label == 1], found[(label == 0) & (image > 0)]
        assert organ.std() < 1e-4 and tissue.std() < 1e-4
        parted.append(float((organ.mean() - tissue.mean()).abs()))
    assert max(parted) > 0.3 and np.mean([gap > 0.02 for gap in parted]) > 0.7


def test_air_mostly_stays_dark():
    image, label = scan()
    dark = [
        float(seeded(seed, classes=2)({"image": image, "label": label})["image"][image == 0].mean()) < 0.06
        for seed in range(30)
    ]
    assert 0.6 < np.mean(dark) < 1.0


def test_probabilities_and_classes_give_the_same():
    image, label = scan()
    soft = F.one_hot(label[0].long(), 2).movedim(-1, 0).half()
    found = [
        seeded(3, classes=classes)({"image": image, "label": given})["image"]
        for classes, given in ((2, label), (None, soft))
    ]
    torch.testing.assert_close(*found)


def test_a_voxel_between_two_classes_gets_an_intensity_between_theirs():
    image, label = scan()
    soft = F.one_hot(label[0].long(), 2).movedim(-1, 0).float()
    soft[:, 4, 5, 3] = torch.tensor([0.5, 0.5])
    found = seeded(2)({"image": image, "label": soft})["image"][0]
    torch.testing.assert_close(found[4, 5, 3], (found[6, 6, 5] + found[2, 2, 2]) / 2)


@pytest.mark.parametrize("classes", [None, 2])
def test_what_repeats_the_edge_of_a_scan_goes_on_repeating_it(classes):
    image, label = scan()
    known = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0)) * 0.2 + image
    known[..., 6:] = known[..., 5:6]
    label[..., 6:] = 255
    if classes is None:
        label = F.one_hot((label % 255).long()[0], 2).movedim(-1, 0).float() * (label != 255)
    found = seeded(4, classes=classes)({"image": known, "label": label})["image"]
    torch.testing.assert_close(found[..., 6:], found[..., 5:6].expand_as(found[..., 6:]))
    assert not torch.allclose(found, known, atol=0.05)


def test_a_label_that_says_nothing_counts_as_background():
    assert class_shares(torch.zeros(2, *SIZE))[0].min() == 1
    assert class_shares(torch.full((1, *SIZE), 255, dtype=torch.uint8), 2)[0].min() == 1


def test_the_label_and_what_is_given_stay_as_they_are():
    image, label = scan()
    before = image.clone(), label.clone()
    found = seeded(0, classes=2)({"image": image, "label": label})
    assert torch.equal(image, before[0]) and torch.equal(found["label"], before[1])


def test_clusters_lie_where_the_values_do():
    values = np.repeat([0.1, 0.4, 0.9], [50, 10, 20])
    np.testing.assert_allclose(find_clusters(values, 8), [0.1, 0.4, 0.9])
    np.testing.assert_allclose(find_clusters(values, 2), [0.15, 0.9])
    np.testing.assert_allclose(find_clusters(np.full(5, 0.3), 4), [0.3])


def test_each_channel_has_curves_of_its_own():
    image, label = scan()
    found = seeded(1, classes=2)({"image": image.repeat(2, 1, 1, 1), "label": label})["image"]
    assert found.shape == (2, *SIZE) and not torch.allclose(found[0], found[1], atol=0.05)
