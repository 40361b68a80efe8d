from __future__ import annotations

import torch

from common.synthesis.field_of_view import RandFieldOfViewd, centred


def item() -> dict[str, torch.Tensor]:
    """Return a scan whose intensity is the number of its voxel along the last axis, unknown in the last four."""
    image = torch.arange(20.0).expand(1, 10, 12, 20).clone()
    label = torch.zeros(2, 10, 12, 20)
    label[0] = 1
    label[:, 3:7, 3:7, 13:16] = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    return {"image": image, "label": label * (torch.arange(20) < 16)}


def test_what_is_in_view_lies_in_the_middle_and_label_and_image_alike():
    for seed in range(20):
        transform = RandFieldOfViewd(prob=1.0)
        transform.set_random_state(seed)
        found = transform(item())
        image, label = found["image"], found["label"]
        assert image.shape == (1, 10, 12, 20) and label.shape == (2, 10, 12, 20)
        known = torch.nonzero(label.sum((0, 1, 2))).flatten()
        assert 5 <= len(known) <= 16  # 0.35 to 1 of the 16 slices that were scanned
        assert abs(float(known.float().mean()) - 9.5) <= 0.5
        assert label[1].any()  # some of the structure
        shown = torch.nonzero(label[1])
        assert set(image[0][tuple(shown.T)].tolist()) <= {13.0, 14.0, 15.0}  # as far as it is in view
        assert (image[..., : known[0]] == image[..., known[0], None]).all()  # the edge, repeated
        assert image.max() <= 15  # nothing of what was not scanned


def test_a_label_that_says_nothing_leaves_the_item_as_it_is():
    given = {"image": torch.rand(1, 4, 4, 4), "label": torch.zeros(2, 4, 4, 4)}
    found = RandFieldOfViewd(prob=1.0)(given)
    assert torch.equal(found["image"], given["image"]) and torch.equal(found["label"], given["label"])


def test_a_part_comes_to_the_middle():
    source, known = centred(slice(2, 5), 7)
    assert source.tolist() == [2, 2, 2, 3, 4, 4, 4] and known.int().tolist() == [0, 0, 1, 1, 1, 0, 0]
