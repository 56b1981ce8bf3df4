"""Noise from a seed, as origin/src/infer/noise.rs makes it: Philox4x32-10 and Box-Muller."""

import numpy as np


def _philox(counter, key):
    c = [np.asarray(v, dtype=np.uint64) for v in counter]
    k = [np.uint64(v) for v in key]
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    for turn in range(10):
        if turn:
            k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
        left = c[0] * np.uint64(0xD2511F53)
        right = c[2] * np.uint64(0xCD9E8D57)
        c = [(right >> shift) ^ c[1] ^ k[0], right & low, (left >> shift) ^ c[3] ^ k[1], left & low]
    return c


def draw(seed, number, count):
    """Draw `number` of `seed`: `count` standard normal numbers in single precision."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    zeros = np.zeros_like(blocks)
    words = _philox(
        [blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32), zeros + np.uint64(number), zeros],
        [seed & 0xFFFFFFFF, seed >> 32],
    )
    u = [(w.astype(np.float64) + 0.5) / 2.0**32 for w in words]
    out = np.empty((len(blocks), 4))
    for pair in (0, 2):
        radius = np.sqrt(-2.0 * np.log(u[pair]))
        out[:, pair] = radius * np.cos(2 * np.pi * u[pair + 1])
        out[:, pair + 1] = radius * np.sin(2 * np.pi * u[pair + 1])
    return out.reshape(-1)[:count].astype(np.float32)
