from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from common.errors import InputError
from common.sam.med3d.attention import RelativeAttention3d


def make_attention(size: int, scale: float = 0.5) -> RelativeAttention3d:
    """Return attention of 2 heads of width 4 with random weights and tables, in float64."""
    torch.manual_seed(0)
    attention = RelativeAttention3d(8, 2, size).double().requires_grad_(False)
    for name, value in attention.named_parameters():
        value.normal_(0, scale * (2 if "rel_pos" in name else 1))
    return attention


def make_tokens(n: int) -> torch.Tensor:
    return torch.randn(2, n, n, n, 8, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def test_relative_positions_equal_the_closed_form_written_as_loops() -> None:
    n, attention = 3, make_attention(3)
    x = make_tokens(n)
    q, k, v = attention.qkv(x).view(2, n, n, n, 3, 2, 4).permute(4, 0, 5, 1, 2, 3, 6)
    d, h, w = attention.rel_pos_d, attention.rel_pos_h, attention.rel_pos_w
    out = torch.zeros(2, n, n, n, 8, dtype=torch.double)
    cells = list(product(range(n), repeat=3))
    for item, head in product(range(2), range(2)):
        mine = q[item, head]
        for a, b, c in cells:
            logits = [
                mine[a, b, c] @ k[item, head, i, j, m] / 2  # 2 is the root of the width
                + mine[a, b, c] @ d[a - m + n - 1]
                + mine[a, b, i] @ h[b - m + n - 1]
                + mine[a, b, j] @ w[j - m + n - 1]
                for i, j, m in cells
            ]
            values = torch.stack([v[item, head][cell] for cell in cells])
            out[item, a, b, c, head * 4 : head * 4 + 4] = torch.stack(logits).softmax(0) @ values
    torch.testing.assert_close(attention(x), attention.proj(out), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "size"), [(1, 2), (2, 3), (3, 5), (4, 5)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_the_virtual_key_equals_zero_padding(n, size, scale) -> None:
    attention, x = make_attention(size, scale), make_tokens(n)
    more = size - n
    padded = attention(F.pad(x, (0, 0, 0, more, 0, more, 0, more)))[:, :n, :n, :n]
    torch.testing.assert_close(attention(x), padded, rtol=1e-11, atol=1e-11)
    # the padding is no formality: tokens attend to it
    alone = make_attention(n, scale)
    for axis in "dhw":
        table = getattr(attention, f"rel_pos_{axis}")
        getattr(alone, f"rel_pos_{axis}").copy_(table[more : more + 2 * n - 1])
    alone.qkv, alone.proj = attention.qkv, attention.proj
    assert not torch.allclose(alone(x), padded, rtol=1e-3)


def test_large_relative_positions_stay_finite_and_right_in_float32() -> None:
    attention, x = make_attention(5, 6.0), make_tokens(3)
    wanted = attention(x)
    got = attention.float()(x.float())
    assert torch.isfinite(got).all()
    assert (got - wanted).abs().max() < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("n", [3, 5])
def test_bfloat16_autocast(n) -> None:
    attention, x = make_attention(5, 0.3).float(), make_tokens(n).float()
    wanted = attention(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = attention(x)
    assert got.dtype == torch.bfloat16
    assert (got - wanted).abs().max() < 0.03 * wanted.abs().max()


def test_more_tokens_than_the_tables_are_refused() -> None:
    with pytest.raises(InputError, match="found 4 tokens a side, wanted at most 3"):
        make_attention(3)(make_tokens(4))
