"""Colours of pictures: which one a picture has, and the same picture in another."""

import numpy as np

# Hue in degrees at the middle of each colour word.
HUES = {"red": 2, "orange": 28, "yellow": 48, "green": 120, "blue": 212, "purple": 272, "pink": 330}


def to_hsv(rgb: np.ndarray) -> np.ndarray:
    """RGB in 0..1 → hue in degrees, saturation, value; last axis 3."""
    high, low = rgb.max(-1), rgb.min(-1)
    chroma = high - low
    safe = np.where(chroma > 0, chroma, 1)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    hue = np.where(
        high == red, (green - blue) / safe % 6, np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    )
    return np.stack([hue * 60, np.where(high > 0, chroma / np.where(high > 0, high, 1), 0), high], -1)


def to_rgb(hsv: np.ndarray) -> np.ndarray:
    """The way back of `to_hsv`."""
    hue, saturation, value = np.moveaxis(hsv, -1, 0)
    sector = (np.array([5, 3, 1]) + hue[..., None] / 60) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(sector, 4 - sector), 0, 1))


def distance(a, b):
    """Degrees between two hues, 0 to 180."""
    return np.abs((np.asarray(a) - b + 180) % 360 - 180)


def dominant(rgba: np.ndarray) -> tuple[str, float] | None:
    """Colour word and hue (degrees) of a uint8 RGBA picture when one hue clearly rules it, else None."""
    hsv = to_hsv(rgba[..., :3].astype(np.float32) / 255)
    visible = rgba[..., 3] > 127
    weight = hsv[..., 1] * hsv[..., 2] * visible
    coloured = (hsv[..., 1] > 0.3) & (hsv[..., 2] > 0.2) & visible
    if visible.sum() == 0 or coloured.sum() < 0.4 * visible.sum():
        return None
    hues, mass = hsv[..., 0][coloured], weight[coloured]
    histogram, _ = np.histogram(hues, bins=36, range=(0, 360), weights=mass)
    peak = 10 * int(np.argmax(histogram)) + 5
    near = distance(hues, peak) < 35
    if mass[near].sum() < 0.75 * mass.sum():
        return None
    turn = np.angle((mass[near] * np.exp(1j * np.deg2rad(hues[near]))).sum())
    hue = float(np.rad2deg(turn) % 360)
    return min(HUES, key=lambda word: distance(HUES[word], hue)), hue


def recolour(rgba: np.ndarray, hue: float, word: str) -> np.ndarray:
    """The picture with its hue `hue` turned to that of `word`."""
    hsv = to_hsv(rgba[..., :3].astype(np.float32) / 255)
    hsv[..., 0] = (hsv[..., 0] + HUES[word] - hue) % 360
    out = rgba.copy()
    out[..., :3] = np.round(to_rgb(hsv) * 255).astype(np.uint8)
    return out
