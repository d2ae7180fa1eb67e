"""Floats to the K-quants that most published models use: Q4_K and Q6_K.

The `gguf` package reads these types but writes only the simpler ones. Rounding is to the nearest
step of each block, without the search for better scales that llama.cpp's own quantiser makes.

```
Q4_K  256 weights in 144 bytes: d, dmin (f16) | 8 scales and 8 minima of 6 bits | 256 x 4 bits
      weight = d * scale * q - dmin * minimum           one scale, one minimum for 32 weights
Q6_K  256 weights in 210 bytes: low 4 bits | high 2 bits | 16 scales (i8) | d (f16)
      weight = d * scale * (q - 32)                     one scale for 16 weights
```
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 256


def q4_k(rows: Floats) -> Bytes:
    """Rows of a multiple of 256 weights as rows of Q4_K bytes."""
    blocks = rows.reshape(-1, 8, 32)
    lowest = np.minimum(blocks.min(axis=2), 0)
    step = (blocks.max(axis=2) - lowest) / np.float32(15)
    d, scales = _shared_scale(step, 63)
    dmin, minima = _shared_scale(-lowest, 63)
    offset = (_f32(dmin) * minima)[:, :, None]
    quants = _divide(blocks + offset, (_f32(d) * scales)[:, :, None])
    pairs = np.rint(quants).clip(0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    packed = pairs[:, :, 0] | (pairs[:, :, 1] << np.uint8(4))
    parts = (d.view(np.uint8), dmin.view(np.uint8), _six_bits(scales, minima), _flat(packed))
    return np.concatenate(parts, axis=1).reshape(*rows.shape[:-1], -1)


def q6_k(rows: Floats) -> Bytes:
    """Rows of a multiple of 256 weights as rows of Q6_K bytes."""
    blocks = rows.reshape(-1, 16, 16)
    step = np.abs(blocks).max(axis=2) / np.float32(31)
    d, scales = _shared_scale(step, 127)
    quants = np.rint(_divide(blocks, (_f32(d) * scales)[:, :, None])).clip(-32, 31) + 32
    halves = quants.astype(np.uint8).reshape(-1, 2, 4, 32)
    low, high = halves & 0x0F, halves >> 4
    nibbles = np.stack([low[:, :, 0] | (low[:, :, 2] << 4), low[:, :, 1] | (low[:, :, 3] << 4)], 2)
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8).reshape(1, 1, 4, 1)
    crumbs = np.bitwise_or.reduce(high << shifts, axis=2)
    signed = scales.astype(np.int8).view(np.uint8)
    parts = (_flat(nibbles), _flat(crumbs), signed, d.view(np.uint8))
    return np.concatenate(parts, axis=1).reshape(*rows.shape[:-1], -1)


def _shared_scale(steps: Floats, most: int) -> tuple[NDArray[np.float16], Bytes]:
    """Each block's steps as small integers (up to `most`) times one half-precision number."""
    shared = (steps.max(axis=1, keepdims=True) / np.float32(most)).astype("<f2")
    small = np.rint(_divide(steps, _f32(shared))).clip(0, most)
    return shared, small.astype(np.uint8)


def _six_bits(scales: Bytes, minima: Bytes) -> Bytes:
    """Eight scales and eight minima of six bits in twelve bytes, as ggml interleaves them."""
    first = scales[:, :4] | (scales[:, 4:] >> 4 << 6)
    second = minima[:, :4] | (minima[:, 4:] >> 4 << 6)
    third = (scales[:, 4:] & 0x0F) | (minima[:, 4:] << 4)
    return np.concatenate([first, second, third], axis=1)


def _divide(values: Floats, by: Floats) -> Floats:
    """Division where nothing divided by nothing is nothing."""
    return np.divide(values, by, out=np.zeros_like(values), where=by != 0)


def _f32(half: NDArray[np.float16]) -> Floats:
    return half.astype(np.float32)


def _flat(blocks: Bytes) -> Bytes:
    return blocks.reshape(len(blocks), -1)
