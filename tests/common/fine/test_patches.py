from __future__ import annotations

import torch
from monai.transforms import Compose
from safetensors.torch import save_file

from common.fine.cases import UNKNOWN, find_points
from common.fine.patches import PatchPreprocessing, RandPatchd, ToTargetd
from common.training.augmentation import Augmentation


def case(folder) -> dict:
    label = torch.zeros(1, 30, 30, 30, dtype=torch.uint8)
    label[0, 5:15, 5:15, 5:15], label[0, 25, 25, 25] = 1, 2
    path = folder / "case.safetensors"
    save_file({"image": label.half() / 2, "label": label, "points": find_points(label[0], 3)}, path)
    return {"case": "case", "path": str(path)}


def test_a_rare_class_is_drawn_as_often_as_a_common_one(tmp_path):
    draw = RandPatchd((6, 6, 6))
    draw.set_random_state(0)
    seen = [set(draw(case(tmp_path))["label"].unique().tolist()) for _ in range(60)]
    assert sum(2 in one for one in seen) > 10 and sum(1 in one for one in seen) > 10


def test_what_is_unknown_has_no_target_and_no_weight():
    label = torch.tensor([0, 1, UNKNOWN, 2]).view(1, 4, 1, 1)
    found = ToTargetd(3)({"label": label, "image": label.float()})
    assert found["target"][:, :, 0, 0].T.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert found["weight"].flatten().tolist() == [1, 1, 0, 1] and "label" not in found


def test_a_patch_is_changed_alike_and_has_the_size_of_the_window(tmp_path):
    augmentation = Augmentation(["label"], (2.0, 2.0, 2.0), nearest=["label"])
    steps = PatchPreprocessing((8, 12, 8), 3, augmentation)
    steps.set_random_state(1)
    first, second = steps(case(tmp_path)), steps(case(tmp_path))
    assert first["image"].shape == (1, 8, 12, 8) and first["target"].shape == (3, 8, 12, 8)
    assert not torch.equal(torch.as_tensor(first["image"]), torch.as_tensor(second["image"]))
    steps.set_random_state(1)
    torch.testing.assert_close(steps(case(tmp_path))["image"], first["image"])  # a resumed run sees the same


def test_larger_voxels_see_more_and_lie_where_the_label_s_do(tmp_path):
    draw = RandPatchd((6, 6, 12), shrink=(2, 2, 1))
    label = torch.zeros(1, 12, 12, 12, dtype=torch.uint8)
    label[:, 4:9, :7, :5] = 1
    seen = draw.shrunk({"image": label.float(), "label": label})
    assert seen["image"].shape == seen["label"].shape == (1, 6, 6, 12)
    assert torch.equal(seen["label"], label[:, ::2, ::2])
    places = torch.arange(6.0).view(6, 1, 1)
    middles = [(one[0] * places).sum() / one.sum() for one in (seen["image"], seen["label"].float())]
    assert abs(middles[0] - middles[1]) < 1e-3  # neither lies half a voxel beside the other
    torch.testing.assert_close(
        draw.shrunk({"image": torch.ones(1, 12, 12, 12), "label": label})["image"], torch.ones(1, 6, 6, 12)
    )
    assert draw(case(tmp_path))["image"].shape == (1, 6, 6, 12)


def test_a_share_of_patches_has_other_contrasts_and_their_label(tmp_path):
    def draw(randomise: float) -> dict:
        steps = PatchPreprocessing((8, 12, 8), 3, Compose([]), randomise=randomise, pixdim=(2.0, 2.0, 2.0))
        steps.set_random_state(3)
        return steps(case(tmp_path))

    assert [type(step).__name__ for step in PatchPreprocessing((8, 12, 8), 3, Compose([])).transforms] == [
        "RandPatchd",
        "Compose",
        "CenterSpatialCropd",
        "ToTargetd",
    ]
    found = draw(1.0)
    assert found["image"].shape == (1, 8, 12, 8) and found["target"].shape == (3, 8, 12, 8)
    assert not torch.isin(found["image"], torch.tensor([0.0, 0.5, 1.0])).all()  # what the file has
    assert torch.isin(draw(0.0)["image"], torch.tensor([0.0, 0.5, 1.0])).all()
