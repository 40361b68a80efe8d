from __future__ import annotations

import torch

from common.tensors import plain
from common.training.augmentation import Augmentation


def test_where_it_was_scanned_goes_with_the_image_and_changes_no_draw():
    image = torch.zeros(1, 12, 12, 12)
    image[..., 3:9] = 1.0
    augmentation, seen = Augmentation(["label"], contrast=(1, 1), brightness=0, noise_prob=0), []
    for extra in ({}, {"inside": image > 0}):
        augmentation.set_random_state(seed=3)
        seen.append([augmentation({"image": image, "label": image, **extra}) for _ in range(3)])
    for without, own in zip(*seen, strict=True):
        assert set(own) == {"image", "label", "inside"} and own["image"].shape == own["inside"].shape == image.shape
        assert torch.equal(without["image"], own["image"]) and torch.equal(without["label"], own["label"])
        torch.testing.assert_close(plain(own["inside"]), plain(own["label"]))
    assert not torch.equal(plain(seen[1][0]["inside"]), plain(seen[1][1]["inside"]))
