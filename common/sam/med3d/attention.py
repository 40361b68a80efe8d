"""Self-attention of SAM-Med3D: relative positions as its weights were trained, zero padding never made."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError


class RelativeAttention3d(nn.Module):
    """Self-attention over a cube of tokens [B, n, n, n, C] -> the same shape, n <= `size`.

    With n < size the result is what attention over the zero-padded cube of side `size` gives at the n^3 tokens: nothing
    is masked there, so the padding takes part as keys and values. All its keys (the bias of `qkv`) are equal, and so
    are its values, hence one virtual key stands for them all; its logit carries the sum of their relative positions.

    Computes what the public repository uni-medical/SAM-Med3D computes, with the relative positions that it gives to
    the public weights (see `relative_logits`).

    Args:
        channels: C, a multiple of `heads`.
        size: side of the cube of tokens for which the tables of relative positions are.
    """

    def __init__(self, channels: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.size = size
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.rel_pos_d = nn.Parameter(torch.zeros(2 * size - 1, channels // heads))
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, channels // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, channels // heads))

    def forward(self, x: Tensor) -> Tensor:
        batch, n, _, _, channels = x.shape
        if n > self.size:
            raise InputError(f"attention: found {n} tokens a side, wanted at most {self.size}")
        # [B, n, n, n, 3C] -> three times [B, heads, n^3, C / heads]
        qkv = self.qkv(x).view(batch, n**3, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = self._bias(q.unflatten(2, (n, n, n)))
        if n < self.size:
            virtual = self._padding_token().to(q.dtype)[1:, None, :, None].expand(-1, batch, -1, -1, -1)
            k, v = torch.cat((k, virtual[0]), 2), torch.cat((v, virtual[1]), 2)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(x.transpose(1, 2).reshape(batch, n, n, n, channels))

    def _padding_token(self) -> Tensor:
        """Return query, key and value of a padded token, [3, heads, C / heads]."""
        return self.qkv.bias.view(3, self.heads, -1)

    def _bias(self, q: Tensor) -> Tensor:
        """Return the relative positions [B, heads, n^3, n^3 (+ 1 for the padding)] of queries [B, heads, n, n, n, c].

        In float32 at least: exponentials of them are summed.
        """
        n = q.shape[2]
        with torch.autocast(q.device.type, enabled=False):
            q = q.to(torch.promote_types(q.dtype, torch.float32))
            tables = [table.to(q.dtype) for table in (self.rel_pos_d, self.rel_pos_h, self.rel_pos_w)]
            d, h, w = relative_logits(q, tables, self.size)
            # [..., a, b, c, i, j, k] from [..., a, b, c, k], [..., a, b, i, k] and [..., a, b, j, k]
            real = d[..., None, None, :n] + (h[..., :, None, :n] + w[..., None, :, :n]).unsqueeze(4)
            real = real.flatten(5).flatten(2, 4)
            if n == self.size:
                return real
            padding = padding_logits(d, h, w, self._padding_token()[0].to(q.dtype), tables)
            return torch.cat((real, padding.flatten(2)[..., None]), -1)


def relative_logits(q: Tensor, tables: list[Tensor], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three terms that relative positions add to the attention logits, before any padding.

    Query at (a, b, c), key at (i, j, k), S = `size`, tables R_d, R_h, R_w [2S - 1, c]:

        bias = Q[a,b,c] . R_d[a-k+S-1]  +  Q[a,b,i] . R_h[b-k+S-1]  +  Q[a,b,j] . R_w[j-k+S-1]

    The textbook has R_d[a-i], R_h[b-j], R_w[c-k], all with Q[a,b,c]. SAM-Med3D was trained with the three terms on
    other axes than meant, and its weights are right only with them. MONAI's `add_decomposed_rel_pos` is a third form.

    Args:
        q: unscaled queries [B, heads, n, n, n, c].

    Returns:
        [B, heads, n(a), n(b), n(c), S(k)], [B, heads, n(a), n(b), n(i), S(k)] and [B, heads, n(a), n(b), n(j), S(k)].
    """
    to_d, to_h, to_w = (table[_offsets(q.shape[2], size, table.device)] for table in tables)  # [n, S, c]
    d = torch.einsum("zhabcx,akx->zhabck", q, to_d)
    h = torch.einsum("zhabix,bkx->zhabik", q, to_h)
    w = torch.einsum("zhabjx,jkx->zhabjk", q, to_w)
    return d, h, w


def padding_logits(d: Tensor, h: Tensor, w: Tensor, padding_query: Tensor, tables: list[Tensor]) -> Tensor:
    """Return log(sum of exp(bias)) over all keys of the padding, [B, heads, n, n, n], from the `relative_logits`.

    A key (i, j, k) is padding if any of its indices is n or more. The sum factorises over i, j and k, and is put
    together from the parts that contain padding, so that nothing is subtracted. The query of a padded token, which the
    terms of R_h and R_w ask for at i >= n and j >= n, is the bias `padding_query` [heads, c] of the projection.
    """
    n, size = h.shape[2], h.shape[-1]
    offsets = _offsets(size, size, h.device)
    # sums over i and j, inside the volume and in the padding
    h_inside, w_inside = h.logsumexp(4), w.logsumexp(4)  # [B, heads, a, b, S(k)]
    h_outside = math.log(size - n) + torch.einsum("hx,bkx->hbk", padding_query, tables[1][offsets[:n]])[:, None]
    w_outside = torch.einsum("hx,jkx->hjk", padding_query, tables[2][offsets[n:]]).logsumexp(1)[:, None, None]
    h_all, w_all = torch.logaddexp(h_inside, h_outside), torch.logaddexp(w_inside, w_outside)
    outside = torch.logaddexp(h_outside + w_all, h_inside + w_outside)
    planes = torch.cat((outside[..., :n], (h_all + w_all)[..., n:]), -1)  # all of a plane k >= n is padding
    return (d + planes.unsqueeze(4)).logsumexp(-1)


def _offsets(rows: int, size: int, device: torch.device) -> Tensor:
    """Return the index into a table of relative positions for each (first, second), [rows, size]."""
    index = torch.arange(size, device=device)
    return index[:rows, None] - index + size - 1
