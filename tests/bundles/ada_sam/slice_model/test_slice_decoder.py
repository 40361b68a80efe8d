from __future__ import annotations

import pytest
import torch

from common.sam.prompted_slices import PromptedSlices, SlicePrompts
from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

SliceDecoder = import_bundle("ada_sam", "slice_model.slice_decoder").SliceDecoder


def prompts(size, count=3):
    rows, columns = size
    boxes = torch.tensor([[0.1 * rows, 0.2 * columns, 0.7 * rows, 0.9 * columns]]).repeat(count, 1)
    boxes[:, 0] += torch.arange(count)
    masks = torch.linspace(-4, 4, columns).expand(count, rows, columns)
    return boxes, masks


def test_answers_are_those_of_prompted_slices():
    sam, size = tiny_sam(), (64, 48)  # the encoder's own pixels: the reference resamples once, too
    decoder, reference = SliceDecoder(sam, batch_size=2, amp=False), PromptedSlices(sam, batch_size=2, amp=False)
    slices = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    embedding = sam.image_encoder(sam.preprocessing(slices))
    owners, (boxes, masks) = torch.tensor([0, 1, 1]), prompts(size)
    for given in ({"boxes": boxes}, {"masks": masks}, {"boxes": boxes, "masks": masks}):
        logits = decoder.logits(embedding, owners, size, **given)
        wanted = reference.decode(embedding, SlicePrompts(owners, **given), size)
        assert logits.shape == (3, *size) and logits.dtype == torch.float32
        # but for the last column, where the reference also sees the padding
        torch.testing.assert_close(logits.sigmoid()[..., :-1], wanted[..., :-1], atol=1e-5, rtol=0)


# finer and coarser than the 32 pixels of the answer, padded below and at the right, and both at once
@pytest.mark.parametrize("size", [(48, 40), (40, 50), (32, 32), (13, 20), (24, 60)])
def test_logits_lie_where_probabilities_of_prompted_slices_lie(size):
    sam = tiny_sam()
    coarse = 6 * torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    low = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic")
    logits, wanted = SliceDecoder(sam)._to_grid(low, size), PromptedSlices(sam)._to_slice(low, size)
    assert logits.shape == wanted.shape
    # the reference blurs a little on its way over the square
    difference = (logits.sigmoid() - wanted).abs()
    assert difference.mean() < 0.02
    assert (logits.sigmoid().roll(1, 2) - wanted).abs().mean() > 3 * difference.mean()


def test_saturated_answers_keep_logits_and_gradients_when_averaged():
    sam = tiny_sam()
    decoder = SliceDecoder(sam)
    low = torch.full((1, 1, 32, 32), 60.0, requires_grad=True)
    for sign in (1, -1):
        averaged = decoder._to_grid(sign * low, (16, 16))
        torch.testing.assert_close(averaged, sign * torch.full((1, 1, 16, 16), 60.0), rtol=1e-3, atol=0)
        (gradient,) = torch.autograd.grad(averaged.sum(), low)
        torch.testing.assert_close(gradient.sum(), torch.tensor(sign * 256.0), rtol=1e-3, atol=0)


def test_gradients_reach_embeddings_weights_and_masks():
    sam = tiny_sam()
    sam.mask_decoder.requires_grad_(True)
    sam.prompt_encoder.requires_grad_(True)
    boxes, masks = prompts((20, 30))
    embedding = torch.randn(2, 32, 8, 8, requires_grad=True)
    masks = masks.clone().requires_grad_()
    SliceDecoder(sam).logits(embedding, torch.tensor([0, 1, 1]), (20, 30), boxes, masks).square().sum().backward()
    given = (embedding, masks, sam.mask_decoder.mask_tokens.weight, sam.prompt_encoder.point_embeddings[2].weight)
    assert all(tensor.grad.abs().sum() > 0 for tensor in given)


def test_no_prompts_no_answers():
    logits = SliceDecoder(tiny_sam()).logits(torch.zeros(1, 32, 8, 8), torch.zeros(0, dtype=torch.long), (5, 6))
    assert logits.shape == (0, 5, 6)
