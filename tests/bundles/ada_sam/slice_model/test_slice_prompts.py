from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "slice_model.slice_prompts")
cam_boxes, batch_boxes, mask_prompt = module.cam_boxes, module.batch_boxes, module.mask_prompt
SIZE = (20, 30)


def block(rows: slice, columns: slice, value: float = 1.0) -> torch.Tensor:
    cam = torch.zeros(1, *SIZE)
    cam[0, rows, columns] = value
    return cam


def test_a_box_covers_its_block_to_the_far_edge():
    boxes, found = cam_boxes(block(slice(4, 9), slice(10, 21)), padding=0.0)
    assert found.tolist() == [True]
    # the released code stopped at the last index
    assert boxes.tolist() == [[4, 10, 9, 21]] and boxes.dtype == torch.float32
    padded, _ = cam_boxes(block(slice(5, 15), slice(10, 20)), padding=0.1)
    assert padded.tolist() == [[4, 9, 16, 21]]


def test_the_edge_of_the_slice_ends_a_box():
    boxes, _ = cam_boxes(block(slice(0, 20), slice(0, 30)), padding=0.2)
    assert boxes.tolist() == [[0, 0, *SIZE]]


def test_parts_count_by_mass_not_by_size():
    # 12 voxels at 1.0 against 20 at 0.45: 12 to 9 in mass, both above 20 %
    both = block(slice(2, 5), slice(2, 6)) + block(slice(10, 14), slice(20, 25), 0.45)
    assert cam_boxes(both, padding=0.0)[0].tolist() == [[2, 2, 14, 25]]
    # a stray hot cell holds too little
    stray = block(slice(2, 8), slice(2, 8)) + block(slice(18, 19), slice(28, 29))
    assert cam_boxes(stray, padding=0.0)[0].tolist() == [[2, 2, 8, 8]]
    # large but faint against small but strong: 30 * 0.41 = 12.3 of 112.3 is below 20 %
    faint = block(slice(2, 12), slice(2, 12)) + block(slice(15, 18), slice(18, 28), 0.41)
    assert cam_boxes(faint, padding=0.0)[0].tolist() == [[2, 2, 12, 12]]
    assert cam_boxes(faint, padding=0.0, share=0.1)[0].tolist() == [[2, 2, 18, 28]]


def test_where_no_part_holds_the_share_the_heaviest_counts():
    cam = torch.zeros(1, *SIZE)
    cam[0, ::4, ::4] = 0.5
    cam[0, 8, 8] = 0.9
    boxes, found = cam_boxes(cam, padding=0.0, min_size=1.0)
    assert found.tolist() == [True] and boxes.tolist() == [[8, 8, 9, 9]]


def test_a_single_voxel_grows_to_the_least_side():
    boxes, _ = cam_boxes(block(slice(9, 10), slice(9, 10)), min_size=4.0)
    assert boxes.tolist() == [[7.5, 7.5, 11.5, 11.5]]


def test_a_map_below_the_threshold_gives_the_whole_slice_and_says_so():
    flat = torch.full((2, *SIZE), 0.39)
    flat[1, 3:9, 3:9] = 0.4
    boxes, found = cam_boxes(flat, padding=0.0)
    assert found.tolist() == [False, True]
    assert boxes.tolist() == [[0, 0, *SIZE], [3, 3, 9, 9]]
    # NaN is no evidence
    boxes, found = cam_boxes(torch.full((1, *SIZE), float("nan")))
    assert not found.any() and boxes.tolist() == [[0, 0, *SIZE]]


def test_a_batch_is_what_its_slices_are():
    cam = torch.rand(3, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    boxes, found = batch_boxes(cam, 0.9, min_size=3.0)
    assert boxes.shape == (3, 2, 4) and found.shape == (3, 2)
    for index in range(3):
        own, there = cam_boxes(cam[index], 0.9, min_size=3.0)
        assert torch.equal(boxes[index], own) and torch.equal(found[index], there)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"\(20, 30\)"):
        cam_boxes(torch.zeros(SIZE))
    with pytest.raises(ValueError, match=r"\(1, 20, 30\)"):
        batch_boxes(torch.zeros(1, *SIZE))
    with pytest.raises(ValueError, match="threshold 0"):
        cam_boxes(torch.zeros(1, *SIZE), threshold=0)
    with pytest.raises(ValueError, match="share 2"):
        cam_boxes(torch.zeros(1, *SIZE), share=2)


def test_a_mask_prompt_is_the_clipped_logit_and_passes_gradients():
    cam = torch.tensor([[[[0.0, 0.5, 0.9, 1.0]]]], requires_grad=True)
    logits = mask_prompt(cam)
    torch.testing.assert_close(logits[0, 0, 0], torch.tensor([0.01, 0.5, 0.9, 0.99]).logit())
    logits.sum().backward()
    assert cam.grad[0, 0, 0, 1] == pytest.approx(4.0) and cam.grad[0, 0, 0, 3] == 0
