"""Small ICC profiles (ICC.1:2001-04, version 2), written from numbers: nobody's property, and each of one kind."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def xyz(values):
    return b"XYZ \0\0\0\0" + b"".join(fixed(v) for v in values)


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def table(values):
    levels = [round(min(max(v, 0), 1) * 65535) for v in values]
    return b"curv\0\0\0\0" + struct.pack(f">I{len(levels)}H", len(levels), *levels)


def profile(colours, connection, tags, kind=b"mntr"):
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78), b"cprt": b"text\0\0\0\0CC0\0", b"wtpt": xyz(D50), **tags}
    at, index, data = 132 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        index += name + struct.pack(">II", at + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    head = bytes(8) + b"\x02\x40\0\0" + kind + colours + connection + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(fixed(v) for v in D50) + bytes(48)
    body = head[4:] + struct.pack(">I", len(tags)) + index + data
    return struct.pack(">I", len(body) + 4) + body


def matrix(white, red, green, blue, curve):
    """An RGB display: chromaticities and a curve."""
    def column(x, y):
        return np.array([x / y, 1, (1 - x - y) / y])
    m = np.stack([column(*p) for p in (red, green, blue)], 1)
    w = column(*white)
    m = m * np.linalg.solve(m, w)
    scale = (BRADFORD @ np.array(D50)) / (BRADFORD @ w)
    m = np.linalg.inv(BRADFORD) @ np.diag(scale) @ BRADFORD @ m
    tags = {name: xyz(m[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return profile(b"RGB ", b"XYZ ", {**tags, **{name: curve for name in (b"rTRC", b"gTRC", b"bTRC")}})


def grey(curve, connection=b"XYZ "):
    return profile(b"GRAY", connection, {b"kTRC": curve})


def to_lab(xyz_values):
    t = np.asarray(xyz_values) / np.array(D50)
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def lut(colours, inputs, grid, lab):
    """A table of Lab, 16 bits (mft2): `lab` for each point of the grid, the last input fastest."""
    l, a, b = np.moveaxis(lab, -1, 0)
    words = np.stack([l / 100 * 65280, (a + 128) * 256, (b + 128) * 256], -1).round().clip(0, 65535).astype(">u2")
    one = np.array([0, 65535], ">u2").tobytes()
    tag = b"mft2\0\0\0\0" + bytes([inputs, 3, grid, 0]) + b"".join(fixed(v) for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)) + struct.pack(">HH", 2, 2) + one * inputs + words.tobytes() + one * 3
    return profile(colours, b"Lab ", {b"A2B0": tag}, b"prtr" if inputs == 4 else b"scnr")


SRGB = ((0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
P3 = ((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE = ((0.3127, 0.329), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
WIDE = ((0.3457, 0.3585), (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001 + 0.0000))
REC2020 = ((0.3127, 0.329), (0.708, 0.292), (0.17, 0.797), (0.131, 0.046))


def srgb_light(v):
    v = np.asarray(v, float)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


SRGB_CURVE = table(srgb_light(np.arange(1024) / 1023))


def inks(grid=7):
    """Four inks as Neugebauer's paper: light is what the inks leave, each impure as printers' are."""
    axis = np.linspace(0, 1, grid)
    c, m, y, k = np.meshgrid(axis, axis, axis, axis, indexing="ij")
    light = np.ones(c.shape + (3,))
    for ink, colour in ((c, (0.02, 0.28, 0.68)), (m, (0.62, 0.03, 0.24)), (y, (0.85, 0.72, 0.03)), (k, (0.02, 0.02, 0.02))):
        light = light * (1 - ink[..., None] * (1 - np.array(colour)))
    srgb_to_xyz = np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7139]])
    return lut(b"CMYK", 4, grid, to_lab(light @ srgb_to_xyz.T))


def scanner(grid=9):
    """RGB by a table: gamma 1.8 and impure colours."""
    axis = np.linspace(0, 1, grid)
    rgb = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1) ** 1.8
    mix = np.array([[0.5, 0.36, 0.104], [0.25, 0.68, 0.07], [0.02, 0.1, 0.7049]])
    return lut(b"RGB ", 3, grid, to_lab(rgb @ mix.T))
