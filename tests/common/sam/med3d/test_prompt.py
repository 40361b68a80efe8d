from __future__ import annotations

import pytest
import torch

from common.errors import InputError
from common.sam.med3d.prompt import PromptEncoder3d


@pytest.fixture
def encoder() -> PromptEncoder3d:
    """The published sizes: 128 voxels and 8 tokens a side."""
    torch.manual_seed(0)
    return PromptEncoder3d(384, 8, 128).requires_grad_(False)


def centre_of(token: tuple[int, int, int]) -> torch.Tensor:
    """Return the coordinates [1, 1, 3] in the middle of a token; half a voxel is added by the encoder."""
    return torch.tensor(token).mul(16).add(7.5)[None, None]


def test_a_point_has_the_code_of_the_token_with_the_first_axes_swapped(encoder) -> None:
    dense = encoder.get_dense_pe()[0]
    sparse, _ = encoder((centre_of((2, 5, 1)), torch.tensor([[1]])))
    code = sparse[0, 0] - encoder.point_embeddings[1].weight[0]
    torch.testing.assert_close(code, dense[:, 5, 2, 1], rtol=0, atol=1e-4)
    assert not torch.allclose(code, dense[:, 2, 5, 1], atol=0.1)


def test_the_code_is_sine_cosine_sine_of_the_shifted_voxel(encoder) -> None:
    matrix = encoder.pe_layer.positional_encoding_gaussian_matrix
    angle = 2 * torch.pi * (2 * (torch.tensor([10.0, 20.0, 30.0]) + 0.5) / 128 - 1) @ matrix
    sparse, _ = encoder((torch.tensor([[[10.0, 20.0, 30.0]]]), torch.tensor([[0]])))
    code = sparse[0, 0] - encoder.point_embeddings[0].weight[0]
    torch.testing.assert_close(code, torch.cat((angle.sin(), angle.cos(), angle.sin())), rtol=0, atol=1e-4)


def test_labels_and_the_slot_without_a_point(encoder) -> None:
    sparse, dense = encoder((torch.full((2, 2, 3), 40.0), torch.tensor([[1, -1], [0, 1]])))
    assert sparse.shape == (2, 3, 384) and dense.shape == (2, 384, 8, 8, 8)
    nothing = encoder.not_a_point_embed.weight[0]
    assert all(row.equal(nothing) for row in (sparse[0, 1], sparse[0, 2], sparse[1, 2]))
    assert sparse[0, 0].equal(sparse[1, 1]) and not torch.allclose(sparse[0, 0], sparse[1, 0])
    assert dense[1, :, 3, 4, 5].equal(encoder.no_mask_embed.weight[0])


def test_a_mask_alone(encoder) -> None:
    masks = torch.randn(3, 1, 32, 32, 32)
    sparse, dense = encoder(None, masks=masks)
    assert sparse.shape == (3, 0, 384) and dense.shape == (3, 384, 8, 8, 8)
    # each token sees its own 4^3 voxels of the mask
    masks[0, 0, 4:8, 8:12, :4] += 1
    changed = (encoder(None, masks=masks)[1] != dense).any(1)
    assert changed.nonzero().tolist() == [[0, 1, 2, 0]]


def test_boxes_are_refused(encoder) -> None:
    with pytest.raises(InputError, match="found boxes, wanted points or a mask"):
        encoder(None, torch.zeros(1, 6))
