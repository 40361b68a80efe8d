"""Which voxels of a mask hang together with some of them, on masks of one bit a voxel."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

WORD = 64  # bits
# of every byte, how many bits it has: numpy counts them itself from 2.0 on, which MONAI Label's environment has not
BITS_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint32)
BITS = tuple(np.uint64(1 << power) for power in range(6))  # 1, 2, 4, ... 32


def pack(mask: np.ndarray) -> np.ndarray:
    """Return a boolean mask [..., n] as words [..., ceil(n / 64)], uint64, the first voxel the lowest bit."""
    words = -(-mask.shape[-1] // WORD)
    packed = np.zeros((*mask.shape[:-1], words * 8), np.uint8)
    packed[..., : -(-mask.shape[-1] // 8)] = np.packbits(mask, axis=-1, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack(words: np.ndarray, n: int) -> np.ndarray:
    """Return words [..., m] of `pack` as a boolean mask [..., n]."""
    flat = words.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(flat, axis=-1, count=n, bitorder="little").view(bool)


def count_voxels(words: np.ndarray) -> int:
    """Return how many voxels of a packed mask are True."""
    return sum(int(BITS_OF_BYTE[row.reshape(-1).view(np.uint8)].sum()) for row in np.atleast_2d(words))


def flood(words: np.ndarray, seeds: Iterable[tuple[int, int, int]]) -> np.ndarray:
    """Return the voxels of a packed mask [H, W, m] that are joined by faces with one of some voxels (h, w, d) of it.

    What `scipy.ndimage.label` finds of these voxels, in an eighth of a byte a voxel: a front goes along each axis in
    both directions until nothing changes, two or three times around a convex body.
    """
    reached = np.zeros_like(words)
    for h, w, d in seeds:
        reached[h, w, d // WORD] |= words[h, w, d // WORD] & (np.uint64(1) << np.uint64(d % WORD))
    if not reached.any():
        return reached
    count = -1
    while count != (count := count_voxels(reached)):
        _along_bits(reached, words)
        for axis in (0, 1):
            ahead, way = np.moveaxis(reached, axis, 0), np.moveaxis(words, axis, 0)
            for step in (1, -1):
                _sweep(ahead[::step], way[::step])
    return reached


def opened(mask: np.ndarray) -> np.ndarray:
    """Return what is left of a mask [H, W, D] bool that is shrunk and then grown by a voxel (cube).

    Beyond its border it goes on. An eighth of a byte a voxel beside the mask and the result, which lie alike in memory.
    """
    lines = sorted(range(3), key=lambda axis: -mask.strides[axis])
    inside = mask.transpose(lines)
    words = pack(inside)
    words &= _grown(~_grown(pack(~inside)) & words)
    return unpack(words, inside.shape[-1]).transpose(np.argsort(lines))


def _grown(words: np.ndarray) -> np.ndarray:
    grown = words | _beside(words)
    for axis in (0, 1):
        before, after = np.moveaxis(grown.copy(), axis, 0), np.moveaxis(grown, axis, 0)
        after[1:] |= before[:-1]
        after[:-1] |= before[1:]
    return grown


def _beside(words: np.ndarray) -> np.ndarray:
    """Return the neighbours of a packed mask's voxels along the packed axis."""
    one, last = BITS[0], np.uint64(WORD - 1)
    near = (words << one) | (words >> one)
    near[..., 1:] |= words[..., :-1] >> last
    near[..., :-1] |= words[..., 1:] << last
    return near


def _sweep(reached: np.ndarray, words: np.ndarray) -> None:
    for before, after, way in zip(reached[:-1], reached[1:], words[1:], strict=True):
        after |= before & way


def _along_bits(reached: np.ndarray, words: np.ndarray) -> None:
    """Fill along the packed axis, up and down, those rows that have somewhere to go."""
    last = np.uint64(WORD - 1)
    rows = (_beside(reached) & words & ~reached).any(axis=-1)
    found, way = reached[rows].T.copy(), words[rows].T.copy()  # [m, rows]
    for index in range(len(found)):
        if index:
            found[index] |= (found[index - 1] >> last) & way[index]
        found[index] = _fill(found[index], way[index], np.left_shift)
    for index in reversed(range(len(found))):
        if index + 1 < len(found):
            found[index] |= (found[index + 1] << last) & way[index]
        found[index] = _fill(found[index], way[index], np.right_shift)
    reached[rows] = found.T


def _fill(reached: np.ndarray, way: np.ndarray, shift: np.ufunc) -> np.ndarray:
    for step in BITS:
        reached = reached | (way & shift(reached, step))
        way = way & shift(way, step)
    return reached
