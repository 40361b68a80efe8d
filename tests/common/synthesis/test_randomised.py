from __future__ import annotations

import torch
from torch.nn import functional as F

from common.synthesis.randomised import RandomisedCopyd, RandThickSlicesd

SIZE = (16, 16, 16)


def item() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    label = torch.zeros(SIZE, dtype=torch.long)
    label[4:10, 4:10, 4:10] = 1
    image = 0.2 * torch.rand(1, *SIZE, generator=random) + 0.3 * label
    return {"image": image, "label": F.one_hot(label, 2).movedim(-1, 0).half()}


def test_the_share_of_items_is_the_one_asked_for():
    transform = RandomisedCopyd((2.0, 2.0, 2.0), prob=0.3)
    transform.set_random_state(0)
    given = item()
    changed = [not torch.equal(transform(given)["image"], given["image"]) for _ in range(200)]
    assert 0.2 < sum(changed) / 200 < 0.4


def test_a_copy_is_scaled_as_a_scan_and_keeps_shape_and_type():
    transform = RandomisedCopyd((2.0, 2.0, 2.0), prob=1.0)
    transform.set_random_state(1)
    for _ in range(10):
        found = transform(item())
        assert found["image"].shape == (1, *SIZE) and found["image"].dtype == torch.float32
        assert found["label"].shape == (2, *SIZE)
        assert type(found["image"]) is torch.Tensor and torch.isfinite(found["image"]).all()
        low, high = found["image"].min(), found["image"].max()
        torch.testing.assert_close(torch.stack([low, high]), torch.tensor([0.0, 1.0]))


def test_one_seed_gives_one_copy_and_another_seed_another():
    transform = RandomisedCopyd((2.0, 2.0, 2.0), prob=1.0)
    found = []
    for seed in (0, 0, 1):
        transform.set_random_state(seed)
        found.append([transform(item())["image"] for _ in range(3)])
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0][0], found[2][0], atol=0.05)
    assert not torch.allclose(found[0][0], found[0][1], atol=0.05)


def test_a_patch_of_classes_keeps_its_values():
    given = item()
    classes = given["label"].argmax(0, keepdim=True).to(torch.uint8)
    classes[:, :3] = 255
    transform = RandomisedCopyd((8.0, 8.0, 8.0), classes=2, prob=1.0)
    transform.set_random_state(0)
    found = transform({**given, "label": classes})
    assert found["label"].dtype == torch.uint8 and set(found["label"].unique().tolist()) == {0, 1, 255}
    assert 0.6 < (found["label"] == classes).float().mean() < 1  # bent a little, and not interpolated
    assert not torch.allclose(found["image"], given["image"], atol=0.05)


def test_thick_slices_blur_along_one_axis_alone():
    image = torch.zeros(1, *SIZE)
    image[0, 8, 8, 8] = 1.0
    blurred = set()
    for seed in range(20):
        transform = RandThickSlicesd("image", (1.0, 1.0, 1.0), prob=1.0)
        transform.set_random_state(seed)
        found = transform({"image": image})["image"][0]
        wide = [axis for axis, n in enumerate(torch.nonzero(found > 1e-6).unique(dim=0).amax(0) + 1) if n > 9]
        spans = [len(found.amax(dim=[a for a in range(3) if a != axis]).nonzero()) for axis in range(3)]
        assert sum(span > 1 for span in spans) <= 1 and len(wide) <= 1
        blurred |= {axis for axis, span in enumerate(spans) if span > 1}
    assert blurred == {0, 1, 2}
    assert torch.equal(RandThickSlicesd("image", (9.0, 9.0, 9.0), prob=1.0)({"image": image})["image"], image)
