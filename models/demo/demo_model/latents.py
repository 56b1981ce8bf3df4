"""Encodes every training picture once: the set as it is, and single-hued pictures turned to other colours."""

import json

import numpy as np
import torch

from . import captions, colour, data, text, vae
from .paths import work_folder


def encode() -> None:
    """Writes `latents.pt`: latents [N,4,16,16], and per row the picture's index, own colour, and turned-to colour."""
    target = work_folder() / "latents.pt"
    if target.exists() and target.stat().st_mtime > vae.checkpoint().stat().st_mtime:
        return
    text.make_tokenizer()
    emojis, rgba = data.load()
    rows, pictures = [], []
    for index, (emoji, picture) in enumerate(zip(emojis, rgba)):
        found = colour.dominant(picture)
        rows.append((index, found and found[0], None))
        pictures.append(data.over_white(picture))
        faces = emoji.group == "Smileys & Emotion" and "heart" not in emoji.name
        if not found or faces or emoji.group == "People & Body":
            continue
        for word in colour.HUES:
            if word != found[0] and not captions.is_held_out(emoji.code, word):
                rows.append((index, None, word))
                pictures.append(data.over_white(colour.recolour(picture, found[1], word)))
    model = vae.load()
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) * 2 - 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        latents = torch.cat([model.encode(part).latent_dist.mode().float() for part in stacked.split(64)])
    torch.save({"latents": latents, "rows": json.dumps(rows)}, target)
    print(f"latents: {len(rows)} ({len(emojis)} pictures and {len(rows) - len(emojis)} recoloured), std {latents.std():.3f}")


def load() -> tuple[torch.Tensor, list[tuple[int, str | None, str | None]]]:
    stored = torch.load(work_folder() / "latents.pt", weights_only=True)
    return stored["latents"], [tuple(row) for row in json.loads(stored["rows"])]
