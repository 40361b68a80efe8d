from __future__ import annotations

import os

import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional as F

from common.errors import InputError
from common.imaging.morphology import dilate, erode, gaussian_smooth
from common.pseudo_labels.opinions import (
    agreement,
    agreement_by_class,
    fuse,
    fuse_by_similarity,
    select_by_quality,
)
from common.pseudo_labels.refine import RefineIntensityd, refine_by_intensity
from common.pseudo_labels.store import PseudoLabelBank


def one_hot(label: torch.Tensor, classes: int) -> torch.Tensor:
    return F.one_hot(label, classes).movedim(-1, 0).float()


def soft(label: torch.Tensor, classes: int) -> torch.Tensor:
    return gaussian_smooth(one_hot(label, classes), 1.0)


def dice(first: torch.Tensor, second: torch.Tensor, value: int = 1) -> float:
    a, b = first == value, second == value
    return 2 * int((a & b).sum()) / int(a.sum() + b.sum())


def box(low: int, high: int, size: int = 24) -> torch.Tensor:
    label = torch.zeros(size, size, size, dtype=torch.long)
    label[low:high, low:high, low:high] = 1
    return label


def test_fuse_is_the_mean():
    torch.testing.assert_close(
        fuse([torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1).half()]), torch.full((2, 1, 1, 1), 0.5)
    )


def test_agreement_by_hand():
    first, second = torch.tensor([[[0, 1, 1, 2]]]), torch.tensor([[[0, 1, 0, 2]]])
    assert agreement(one_hot(first, 3), one_hot(second, 3)) == pytest.approx((2 / 3 + 1) / 2)
    assert agreement(one_hot(first, 4), one_hot(second, 4)) == pytest.approx((2 / 3 + 1) / 2)  # class 3: neither has it
    assert agreement(one_hot(first, 3), one_hot(first, 3)) == 1
    assert agreement(one_hot(first, 3), one_hot(torch.zeros_like(first), 3)) == 0
    assert agreement(one_hot(0 * first, 3), one_hot(0 * first, 3)) == 0  # nothing found is no good label


@pytest.mark.parametrize(
    ("keep", "wanted"), [(0.5, ["b", "d"]), (1.0, ["b", "d", "a", "c"]), (0.0, ["b"]), (0.75, ["b", "d", "a"])]
)
def test_select_by_quality(keep, wanted):
    assert select_by_quality({"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.7}, keep) == wanted


def test_of_few_cases_more_than_the_share_are_kept():
    quality = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.7}
    assert select_by_quality(quality, 0.25, 3) == ["b", "d", "a"]
    assert select_by_quality(quality, 0.5, 20) == ["b", "d", "a", "c"]


def test_select_by_quality_breaks_ties_by_name_and_bears_no_cases():
    assert select_by_quality({"b": 0.5, "a": 0.5}, 0.5) == ["a"]
    assert select_by_quality({}, 0.5) == []


@pytest.mark.parametrize("found", [(9, 25), (8, 26), (8, 23), (9, 24)])
def test_refinement_moves_a_boundary_to_the_true_edge(found):
    truth, label = torch.zeros(2, 32, 32, 32, dtype=torch.long)
    truth[8:24, 8:24, 8:24] = 1
    label[found[0] : found[1], 8:24, 8:24] = 1
    noise = 0.03 * torch.randn(1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    image = (0.3 + 0.4 * truth[None] + noise).clamp(0, 1)
    before = soft(label, 2)
    after = refine_by_intensity(image, before)
    torch.testing.assert_close(after.sum(0), torch.ones(32, 32, 32))
    errors = [int((probabilities.argmax(0) != truth).sum()) for probabilities in (before, after)]
    assert errors[1] < 0.45 * errors[0] and dice(after.argmax(0), truth) > 0.97


def test_refinement_leaves_alone_what_is_far_from_the_surfaces():
    truth = box(7, 17)
    image = 0.3 + 0.4 * truth[None].float()
    image[:, 0:3, 0:3, 0:3] = 0.7  # as bright as the structure, but far away
    after = refine_by_intensity(image, soft(truth, 2)).argmax(0)
    assert after[0:3, 0:3, 0:3].eq(0).all()


def test_weight_zero_and_an_empty_foreground_return_the_input():
    image, label = torch.rand(1, 24, 24, 24), soft(box(6, 18), 2)
    assert torch.equal(refine_by_intensity(image, label, weight=0), label)
    empty = one_hot(torch.zeros(24, 24, 24, dtype=torch.long), 2)
    assert torch.equal(refine_by_intensity(image, empty), empty)


def test_refinement_of_touching_structures():
    truth = torch.zeros(24, 24, 24, dtype=torch.long)
    truth[4:12, 6:18, 6:18], truth[12:20, 6:18, 6:18] = 1, 2
    found = torch.zeros_like(truth)
    for half, border in ((slice(6, 12), 11), (slice(12, 18), 13)):  # the border is a step, one voxel off on either side
        found[4:border, half, 6:18], found[border:20, half, 6:18] = 1, 2
    image = torch.tensor([0.1, 0.45, 0.8])[truth][None]
    image = (image + 0.03 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    after = refine_by_intensity(image, soft(found, 3)).argmax(0)
    inside = (slice(None), slice(7, 17), slice(7, 17))
    for value in (1, 2):
        assert dice(after[inside], truth[inside], value) > 0.97 > dice(found[inside], truth[inside], value) + 0.03


def test_refinement_of_a_constant_image_and_of_an_absent_class_is_finite():
    probabilities = one_hot(box(6, 18), 3)
    for image in (torch.full((1, 24, 24, 24), 0.5), torch.rand(1, 24, 24, 24)):
        after = refine_by_intensity(image, probabilities)
        assert after.isfinite().all() and not after.argmax(0).eq(2).any()


def test_dilate_and_erode_are_cubes():
    mask = torch.zeros(9, 9, 9, dtype=torch.bool)
    mask[4, 4, 4] = True
    grown = dilate(mask, 2)
    assert int(grown.sum()) == 125 and grown[2:7, 2:7, 2:7].all()
    assert torch.equal(erode(grown, 2), mask)
    assert torch.equal(dilate(mask, 0), mask)
    assert erode(torch.ones(4, 4, 4, dtype=torch.bool), 1).all()  # the border of the volume is no surface


def test_refine_intensityd_keeps_the_metadata():
    truth = box(7, 17)
    image = MetaTensor(0.3 + 0.4 * truth[None].float())
    pred = MetaTensor(soft(box(6, 18), 2), affine=2 * torch.eye(4))
    data = {"image": image, "pred": pred}
    result = RefineIntensityd("pred")(data)
    torch.testing.assert_close(
        result["pred"].as_tensor(), refine_by_intensity(image.as_tensor(), pred.as_tensor()), rtol=0, atol=1e-6
    )
    assert torch.equal(result["pred"].affine, pred.affine)
    assert torch.equal(data["pred"], MetaTensor(soft(box(6, 18), 2)))  # the input is left as it was


def test_bank_round_trip(tmp_path):
    bank = PseudoLabelBank(tmp_path / "round_1")
    label = torch.rand(3, 4, 5, 6)
    assert "case_1" not in bank
    bank.save(
        "case_1", {"label": MetaTensor(label).half(), "ddf": label.transpose(1, 3)}, quality=0.75, folding_percent=0.0
    )
    again = PseudoLabelBank(tmp_path / "round_1")
    assert "case_1" in again and "case_2" not in again
    tensors = again.load("case_1")
    assert tensors["label"].dtype == torch.float32
    torch.testing.assert_close(tensors["label"], label.half().float())
    torch.testing.assert_close(tensors["ddf"], label.transpose(1, 3))
    assert again.judgement("case_1") == {"quality": 0.75, "folding_percent": 0.0}


def test_a_failed_write_leaves_the_label_that_was_there(tmp_path, monkeypatch):
    bank = PseudoLabelBank(tmp_path)
    bank.save("a", {"label": torch.zeros(1)}, quality=0.1)

    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        bank.save("a", {"label": torch.ones(1)}, quality=0.2)
    assert bank.load("a")["label"].item() == 0 and bank.judgement("a") == {"quality": 0.1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_an_opinion_that_knows_nothing_of_a_voxel_has_no_say_there():
    first, second = torch.zeros(2, 4, 1, 1), torch.zeros(2, 4, 1, 1)
    first[:, :3, 0, 0] = torch.tensor([[0.2, 0.4, 1.0], [0.8, 0.6, 0.0]])
    second[:, 1:3, 0, 0] = torch.tensor([[0.6, 0.0], [0.4, 1.0]])
    fused = fuse([first, second])[..., 0, 0]
    torch.testing.assert_close(fused, torch.tensor([[0.2, 0.5, 0.5, 0.0], [0.8, 0.5, 0.5, 0.0]]))
    known = torch.softmax(torch.randn(2, 3, 4, 4, 4), 1)
    assert torch.equal(fuse(list(known)), known.mean(0))


def test_what_is_of_no_class_stays_so():
    image = torch.rand(1, 10, 10, 10, generator=torch.manual_seed(0))
    label = torch.zeros(2, 10, 10, 10)
    label[1, 2:8, 2:8, :6] = 1
    label[0, ..., :6] = 1 - label[1, ..., :6]  # the scan ends in the middle of the structure
    refined = refine_by_intensity(image, label)
    assert refined[..., 6:].abs().max() == 0
    torch.testing.assert_close(refined[..., :6].sum(0), torch.ones(10, 10, 6))


def test_the_opinion_of_what_is_most_alike_decides_in_the_whole_and_place_by_place():
    first, second = (torch.tensor([1.0 - p, p]).view(2, 1, 1, 1).expand(2, 4, 4, 8) for p in (0.9, 0.2))
    high, low = torch.full((1, 4, 4, 8), 0.6), torch.full((1, 4, 4, 8), 0.3)
    fused = fuse_by_similarity([first, second], [high, low])
    torch.testing.assert_close(fused, first.contiguous(), rtol=0, atol=1e-4)
    torch.testing.assert_close(fused.sum(0), torch.ones(4, 4, 8))
    mixed = torch.cat([high[..., :4], low[..., :4]], dim=-1)
    fused = fuse_by_similarity([first, second], [mixed, mixed.flip(-1)])
    assert (fused[1, ..., :3] > 0.85).all() and (fused[1, ..., 5:] < 0.25).all()
    torch.testing.assert_close(fuse_by_similarity([first, second], [high, high])[1], torch.full((4, 4, 8), 0.55))


def test_where_an_opinion_knows_nothing_the_other_one_alone_is_heard():
    first = torch.tensor([0.1, 0.9]).view(2, 1, 1, 1).expand(2, 4, 4, 8).clone()
    second = torch.tensor([0.8, 0.2]).view(2, 1, 1, 1).expand(2, 4, 4, 8).clone()
    first[..., 6:] = 0
    alike = torch.full((1, 4, 4, 8), 0.6)
    alike[..., 6:] = torch.nan
    fused = fuse_by_similarity([first, second], [alike, torch.full((1, 4, 4, 8), 0.5)])
    torch.testing.assert_close(fused[..., 6:], second[..., 6:])
    assert not fused.isnan().any()
    assert fuse_by_similarity([first], [alike]) is first


def test_what_neither_opinion_has_is_no_agreement_where_it_has_to_be_there():
    label = torch.zeros(3, 2, 2, 2)
    label[1] = 1
    assert agreement(label, label) == 1 and agreement(label, label, [1, 2]) == 0.5
    assert agreement_by_class(label, label, [1, 2]) == {1: 1.0, 2: 0.0}
