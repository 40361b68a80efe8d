from __future__ import annotations

import pytest
import torch

from common.errors import InputError
from common.sam.build import SamModel
from common.sam.members.efficient_sam_decoder import EfficientMaskDecoder, EfficientPromptEncoder
from common.sam.members.preprocessing import Preprocessing
from common.sam.prompted_slices import PromptedSlices, SlicePrompts


@pytest.fixture
def prompts() -> EfficientPromptEncoder:
    torch.manual_seed(0)
    return EfficientPromptEncoder(16, 4, 64).requires_grad_(False)


@pytest.fixture
def sam(prompts) -> SamModel:
    torch.manual_seed(1)
    encoder = torch.nn.Conv2d(3, 16, 16, 16)
    parts = {"image_encoder": encoder, "prompt_encoder": prompts, "mask_decoder": EfficientMaskDecoder(16)}
    return SamModel("efficient", Preprocessing(64, keep_aspect=False), 16, parts)


def test_a_box_is_two_points_and_six_slots_are_filled(prompts) -> None:
    box = torch.tensor([[3.0, 4.0, 50.0, 60.0]])
    sparse, dense = prompts(None, box)
    corners = (box.view(1, 2, 2), torch.tensor([[2, 3]]))
    assert sparse.shape == (1, 6, 16) and dense.shape == (1, 16, 1, 1) and dense.eq(0).all()
    assert sparse.equal(prompts(corners)[0])
    assert (sparse[:, 2:] == sparse[:, 2:3]).all() and not sparse[:, 1].equal(sparse[:, 2])
    assert sparse[0, :2].equal(prompts((box.view(1, 2, 2), torch.zeros(1, 2)), box)[0][0, 2:4])


def test_labels_choose_the_learnt_code_and_a_filler_has_no_position(prompts) -> None:
    where = torch.tensor([[[7.0, 9.0]]])
    outside, inside = (prompts((where, torch.tensor([[label]])))[0][0, 0] for label in (0, 1))
    torch.testing.assert_close(inside - outside, prompts.point_embeddings.weight[0])
    fillers = [prompts((place, torch.tensor([[-1]])))[0] for place in (where, where + 20)]
    assert fillers[0].equal(fillers[1])


def test_position_code_is_that_of_the_pixel_centre(prompts) -> None:
    # the centre of token (row 1, column 2) of 16 pixels a side
    sparse, _ = prompts((torch.tensor([[[39.5, 23.5]]]), torch.tensor([[0]])))
    torch.testing.assert_close(sparse[0, 0], prompts.get_dense_pe()[0, :, 1, 2])


def test_other_prompts_are_refused(prompts) -> None:
    seven = (torch.zeros(1, 7, 2), torch.ones(1, 7))
    with pytest.raises(InputError, match="found 7 points, wanted 6 or fewer"):
        prompts(seven)
    with pytest.raises(InputError, match="found mask prompts"):
        prompts(None, torch.zeros(1, 4), torch.zeros(1, 1, 16, 16))
    with pytest.raises(InputError, match="found no prompt"):
        prompts(None)


def test_single_and_multiple_masks_are_of_different_tokens(sam) -> None:
    embedding = torch.rand(1, 16, 4, 4)
    sparse, dense = sam.prompt_encoder(None, torch.tensor([[3.0, 4.0, 50.0, 60.0], [0.0, 0.0, 9.0, 9.0]]))
    position = sam.prompt_encoder.get_dense_pe()
    single, iou = sam.mask_decoder(embedding, position, sparse, dense, multimask_output=False)
    several, ious = sam.mask_decoder(embedding, position, sparse, dense, multimask_output=True)
    assert single.shape == (2, 1, 16, 16) and iou.shape == (2, 1)
    assert several.shape == (2, 3, 16, 16) and ious.shape == (2, 3)
    assert not any(single[:, 0].allclose(mask) for mask in several.unbind(1))


def test_prompts_of_several_images_are_those_of_each(sam) -> None:
    embedding, boxes = torch.rand(3, 16, 4, 4), torch.rand(3, 4) * 60
    together = sam.decode(embedding, boxes=boxes, amp=False)
    alone = [sam.decode(embedding[i : i + 1], boxes=boxes[i : i + 1], amp=False) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    assert not together[0].allclose(together[1])


def test_it_answers_for_slices_of_a_volume(sam) -> None:
    asked = PromptedSlices(sam, amp=False)
    embedding = asked.encode(torch.rand(1, 1, 20, 30, 2))
    boxes = torch.tensor([[2.0, 3.0, 10.0, 20.0]])
    found = asked.decode(embedding, SlicePrompts(torch.tensor([1]), boxes=boxes), (20, 30))
    assert found.shape == (1, 20, 30) and found.min() >= 0 and found.max() <= 1
    with pytest.raises(InputError, match="found mask prompts"):
        asked.decode(embedding, SlicePrompts(torch.tensor([1]), masks=torch.rand(1, 20, 30)), (20, 30))
