"""PNG files of every colour type, depth and interlacing, which Pillow cannot write."""

import struct
import zlib

import numpy as np

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def rows(samples, depth):
    out = b""
    for number, row in enumerate(samples):
        flat = row.reshape(-1)
        if depth == 16:
            line = flat.astype(">u2").tobytes()
        elif depth == 8:
            line = flat.astype("u1").tobytes()
        else:
            bits = ((flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(-1).astype("u1")
            line = np.packbits(bits).tobytes()
        size = max(1, depth * samples.shape[2] // 8)
        # Filters in turn: none, sub, up.
        if number % 3 == 1:
            raw = np.frombuffer(line, "u1").astype(int)
            before = np.concatenate([np.zeros(size, int), raw])[: len(raw)]
            out += b"\1" + ((raw - before) % 256).astype("u1").tobytes()
        elif number % 3 == 2:
            raw, above = np.frombuffer(line, "u1").astype(int), np.frombuffer(last, "u1").astype(int)
            out += b"\2" + ((raw - above) % 256).astype("u1").tobytes()
        else:
            out += b"\0" + line
        last = line
    return out


def png(samples, colour_type, depth, interlaced=False, before=()):
    """`samples`: rows × columns × samples of whole numbers; `before`: chunks between header and data."""
    height, width, _ = samples.shape
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    if interlaced:
        passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        data = b"".join(rows(p, depth) for p in passes if p.size)
    else:
        data = rows(samples, depth)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(before) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
