from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.errors import InputError
from common.sam.build import SamModel, build_sam
from common.sam.members.preprocessing import Preprocessing
from common.sam.prompted_slices import PromptedSlices, SlicePrompts
from common.sam.weights.known import find_weights

STRIDE = 4


class GreyEncoder(nn.Module):
    """The mean grey of each patch in channel 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.images = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.images += len(image)
        return F.avg_pool2d(image[:, :1], STRIDE).expand(-1, 8, -1, -1) * self.weight


class PlainPrompts(nn.Module):
    """Hands the prompts through: a box or a point as its pixel coordinates, a mask pooled to the tokens."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.tokens = size // STRIDE
        self.mask_input_size = (4 * self.tokens, 4 * self.tokens)

    def get_dense_pe(self) -> torch.Tensor:
        return torch.zeros(1, 8, self.tokens, self.tokens)

    def forward(self, points, boxes, masks):
        self.points, self.boxes, self.masks = points, boxes, masks
        count = next(len(p) for p in (boxes, masks, points and points[0]) if p is not None)
        sparse = torch.zeros(count, 1, 8) if boxes is None else F.pad(boxes, (0, 4))[:, None]
        if masks is None:
            return sparse, torch.zeros(count, 8, self.tokens, self.tokens)
        return sparse, F.avg_pool2d(masks, 4).expand(-1, 8, -1, -1)


class BoxDecoder(nn.Module):
    """Draws the box of the sparse prompt where the embedding is not dark; takes one image as the published one does."""

    def forward(self, embedding, position, sparse, dense, multimask_output):
        assert not multimask_output and len(embedding) == 1
        source = embedding.repeat_interleave(len(sparse), 0) + dense
        size = 4 * source.shape[-1]
        grid = (torch.arange(size) + 0.5) * STRIDE / 4  # pixels
        x0, y0, x1, y1 = (sparse[:, 0, :4] + 0.5).unbind(1)
        inside = ((grid > y0[:, None]) & (grid < y1[:, None]))[:, :, None]
        inside = inside & ((grid > x0[:, None]) & (grid < x1[:, None]))[:, None, :]
        bright = F.interpolate(source[:, :1], (size, size)) > 0.25
        return torch.where(inside[:, None] & bright, 20.0, -20.0), torch.zeros(len(sparse), 1)


def fake_sam(size: int = 64, **options) -> SamModel:
    parts = {"image_encoder": GreyEncoder(), "prompt_encoder": PlainPrompts(size), "mask_decoder": BoxDecoder()}
    return SamModel("fake", Preprocessing(size, **options), STRIDE, parts)


def one(values: list) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float32)


@pytest.mark.parametrize("axis", [-1, -2, -3])
@pytest.mark.parametrize("height, width", [(32, 20), (20, 32), (64, 40), (128, 96)])
def test_a_box_comes_back_where_it_was_asked(axis, height, width) -> None:
    volume = torch.ones(1, 1, 3, height, width).movedim(2, axis)
    asked = PromptedSlices(fake_sam(), slice_axis=axis, amp=False)
    embedding = asked.encode(volume)
    assert embedding.shape == (3, 8, 16, 16)
    box = [height / 4, width / 2, height / 2, width]
    mask = asked.decode(embedding, SlicePrompts(torch.tensor([1]), boxes=one(box)), (height, width))[0] > 0.5
    wanted = torch.zeros(height, width, dtype=torch.bool)
    wanted[height // 4 : height // 2, width // 2 :] = True
    # a low-resolution pixel of the answer is one pixel of the input here
    limit = 0.1 if height < 128 else 0.2
    assert (mask ^ wanted).sum() <= limit * wanted.sum()
    rows, columns = wanted.nonzero().float().mean(0)
    found = mask.nonzero().float().mean(0)
    assert (found - torch.stack([rows, columns])).abs().max() < 0.26 * max(1, height / 64)


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_positions_round_trip_on_a_slice_that_is_not_square(keep_aspect) -> None:
    asked = PromptedSlices(fake_sam(keep_aspect=keep_aspect))
    positions = torch.tensor([[0.0, 0.0], [40.0, 20.0], [10.5, 3.5]])
    pixels = asked.to_pixels(positions, (40, 20))
    width = 32 if keep_aspect else 64
    # edges to edges; x first; the centre of pixel i is i
    torch.testing.assert_close(pixels[:2], torch.tensor([[-0.5, -0.5], [width - 0.5, 63.5]]))
    back = (pixels + 0.5).flip(-1) * torch.tensor([40 / 64, 20 / width])
    torch.testing.assert_close(back, positions)


def test_points_and_boxes_reach_the_prompt_encoder_as_x_y() -> None:
    sam = fake_sam()
    asked = PromptedSlices(sam)
    embedding = asked.encode(torch.ones(1, 1, 32, 16, 2))
    prompts = SlicePrompts(torch.tensor([0]), one([2, 4, 10, 8]), points=one([[3.5, 5.5], [0, 0]]), labels=one([1, -1]))
    asked.decode(embedding, prompts, (32, 16))
    assert sam.prompt_encoder.boxes.tolist() == [[7.5, 3.5, 15.5, 19.5]]
    assert sam.prompt_encoder.points[0][0, 0].tolist() == [10.5, 6.5]
    assert sam.prompt_encoder.points[1].tolist() == [[1, -1]]


def test_mask_prompts_fill_the_images_part_of_the_square() -> None:
    sam = fake_sam()
    asked = PromptedSlices(sam)
    embedding = asked.encode(torch.ones(1, 1, 32, 16, 2))
    masks = torch.full((2, 32, 16), -3.0)
    masks[0, :16] = 5.0
    masks[1] = -1.0
    asked.decode(embedding, SlicePrompts(torch.tensor([0, 1]), masks=masks), (32, 16))
    given = sam.prompt_encoder.masks
    assert given.shape == (2, 1, 64, 64)
    assert given[0, 0, :31, :31].eq(5).all() and given[0, 0, 34:, :].eq(-3).all()
    # the padding is as low as the prompt's own lowest, whatever is beside it in the batch
    assert given[0, 0, :, 33:].eq(-3).all() and given[1].eq(-1).all()


def test_prompts_of_many_slices_do_not_touch_each_other() -> None:
    volume = torch.tensor([0.0, 1.0, 0.1, 0.9]).expand(1, 1, 32, 32, 4)
    asked = PromptedSlices(fake_sam(), batch_size=3, amp=False)
    embedding = asked.encode(volume)
    places = torch.tensor([3, 0, 1, 2, 1, 3, 0])
    boxes = torch.tensor([[2.0 + i, 3.0, 20.0, 9.0 + i] for i in range(7)])
    found = asked.decode(embedding, SlicePrompts(places, boxes), (32, 32))
    for order in (torch.arange(6, -1, -1), torch.tensor([4])):
        again = asked.decode(embedding, SlicePrompts(places[order], boxes[order]), (32, 32))
        torch.testing.assert_close(again, found[order])
    filled = found.flatten(1).amax(1) > 0.5
    assert filled.tolist() == [True, False, True, False, True, True, False]


def test_only_wanted_slices_are_encoded() -> None:
    volume = torch.arange(6.0).expand(1, 1, 16, 16, 6) / 6
    sam = fake_sam()
    asked = PromptedSlices(sam, amp=False)
    found = asked.encode(volume, [4, 1])
    assert sam.image_encoder.images == 2
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([4 / 6, 1 / 6]))
    with pytest.raises(InputError, match="wanted indices from 0 to 5"):
        asked.encode(volume, [6])


def test_no_prompts_no_masks_and_bad_ones_are_said() -> None:
    asked = PromptedSlices(fake_sam())
    embedding = asked.encode(torch.ones(1, 1, 8, 6, 2))
    none = SlicePrompts(torch.zeros(0, dtype=torch.long), boxes=torch.zeros(0, 4))
    assert asked.decode(embedding, none, (8, 6)).shape == (0, 8, 6)
    with pytest.raises(InputError, match="neither boxes nor points nor masks"):
        asked.decode(embedding, SlicePrompts(torch.tensor([0])), (8, 6))
    with pytest.raises(InputError, match="labels alone"):
        asked.decode(embedding, SlicePrompts(torch.tensor([0]), points=one([[1, 1]])), (8, 6))
    with pytest.raises(InputError, match="slice_axis: found 2"):
        PromptedSlices(fake_sam(), slice_axis=2)


@pytest.mark.parametrize("name, size", [("mobile_sam", 128), ("lite_medsam", 64)])
def test_real_weights_find_a_disc_in_its_box(name, size) -> None:
    try:
        path = find_weights(name)
    except InputError as error:
        pytest.skip(str(error))
    sam = build_sam(name, path, size)
    before = {key: value.clone() for key, value in sam.state_dict().items()}
    row, column = torch.meshgrid(torch.arange(48.0), torch.arange(36.0), indexing="ij")
    disc = (row - 20) ** 2 + (column - 14) ** 2 < 81
    image = (0.15 + 0.6 * disc + 0.02 * torch.sin(row * column)).clamp(0, 1)
    asked = PromptedSlices(sam)
    embedding = asked.encode(image[None, None, :, :, None])
    prompts = SlicePrompts(torch.tensor([0]), boxes=one([11, 5, 30, 24]))
    mask = asked.decode(embedding, prompts, image.shape)[0]
    assert not mask.requires_grad and 0 <= mask.min() and mask.max() <= 1
    found = mask > 0.5
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.85
    assert all(value.equal(before[key]) for key, value in sam.state_dict().items())
