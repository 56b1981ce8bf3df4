"""The data set: Fluent Emoji 3D pictures with names and keywords, from four pinned npm packages."""

import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .paths import work_folder

PACKAGES = (
    "@lobehub/fluent-emoji-3d@1.1.0",  # the pictures: Microsoft's Fluent Emoji, MIT
    "unicode-emoji-json@0.9.0",  # names and groups, MIT
    "emojilib@4.0.3",  # keywords, MIT
    "emojibase-data@17.0.0",  # more keywords, MIT
)
SIZE = 128
# Country flags are not part of Microsoft's release; the technologists show a laptop with a trademark, and one of the
# paperclips resembles a company's mascot.
LEFT_OUT_GROUPS = {"Flags"}
LEFT_OUT_WORDS = ("technologist", "paperclip")


@dataclass(frozen=True)
class Emoji:
    """One picture's texts: `code` is its code points as the picture package writes them."""

    code: str
    name: str
    group: str
    keywords: tuple[str, ...]


def prepare() -> None:
    """Fetches and decodes everything once into `emoji.json` and `rgba.npy` (N×128×128×4, uint8)."""
    folder = work_folder()
    if (folder / "rgba.npy").exists():
        return
    packages = folder / "packages"
    packages.mkdir(exist_ok=True)
    roots = [_fetch(package, packages) for package in PACKAGES]
    emojis, pictures = _read(*roots)
    (folder / "emoji.json").write_text(json.dumps([vars(emoji) for emoji in emojis], indent=0))
    np.save(folder / "rgba.tmp.npy", np.stack(pictures))
    (folder / "rgba.tmp.npy").rename(folder / "rgba.npy")
    print(f"data: {len(emojis)} pictures")


def load() -> tuple[list[Emoji], np.ndarray]:
    """The texts and the pictures, in the same order."""
    folder = work_folder()
    rows = json.loads((folder / "emoji.json").read_text())
    emojis = [Emoji(row["code"], row["name"], row["group"], tuple(row["keywords"])) for row in rows]
    return emojis, np.load(folder / "rgba.npy")


def over_white(rgba: np.ndarray) -> np.ndarray:
    """Puts straight-alpha uint8 pictures over white; float32 in 0..1."""
    pixels = rgba.astype(np.float32) / 255
    alpha = pixels[..., 3:]
    return pixels[..., :3] * alpha + (1 - alpha)


def _fetch(package: str, folder: Path) -> Path:
    name, version = package.rsplit("@", 1)
    archive = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    target = folder / archive.stem
    if not target.exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(archive) as opened:
            opened.extractall(target, filter="data")
    return target / "package"


def _read(pictures: Path, names: Path, keywords: Path, more: Path) -> tuple[list[Emoji], list[np.ndarray]]:
    files = {_code(path.stem): path for path in (pictures / "assets").glob("*.webp")}
    words = json.loads(next((keywords / "dist").glob("emoji-en-US.json")).read_text())
    tags = {entry["emoji"]: entry.get("tags", []) for entry in json.loads((more / "en" / "data.json").read_text())}
    emojis, decoded = [], []
    for symbol, entry in json.loads((names / "data-by-emoji.json").read_text()).items():
        code = _code("-".join(f"{ord(point):04x}" for point in symbol))
        left_out = entry["group"] in LEFT_OUT_GROUPS or any(word in entry["name"] for word in LEFT_OUT_WORDS)
        if code not in files or left_out:
            continue
        found = [word.replace("_", " ").lower() for word in (*words.get(symbol, ()), *tags.get(symbol, ()))]
        plain = dict.fromkeys(word for word in found if word.replace(" ", "").replace("-", "").isalpha())
        emojis.append(Emoji(code, entry["name"].lower(), entry["group"], tuple(plain)))
        decoded.append(_decode(files[code]))
    return emojis, decoded


def _code(text: str) -> str:
    return "-".join(part for part in text.lower().split("-") if part != "fe0f")


def _decode(path: Path) -> np.ndarray:
    picture = Image.open(path).convert("RGBA")
    side = max(picture.size)  # four pictures are 256×264
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    # "RGBa" is premultiplied: the colour of invisible pixels must not bleed into the edges.
    return np.asarray(square.convert("RGBa").resize((SIZE, SIZE), Image.Resampling.BOX).convert("RGBA"))
