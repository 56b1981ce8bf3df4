"""The figures of the model card, measured on the weights that the export stores.

Pictures are compared as 32×32 over white; the colour-blind distance looks at brightness alone.
"""

import argparse
import json
import math
import random
import time

import numpy as np
import torch

from . import captions, colour, data, sample
from .paths import HERE

SHOWN = (
    "a purple heart", "a red apple", "pizza", "a penguin", "a rocket", "grinning face", "a strawberry", "an owl",
    "a green apple", "a robot", "a star", "a rose", "a dog face", "a house", "a butterfly", "a birthday cake",
)
COMPOSED = (
    "a blue apple", "a purple fish", "a green cat", "a pink car", "a red banana", "a blue strawberry", "an orange whale",
    "a purple star", "a green rocket", "a blue pizza", "a pink robot", "a red fish", "a purple lemon", "a blue rose",
    "an orange butterfly", "a green heart",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=200, help="how many names are drawn from the set")
    parser.add_argument("--guidance", type=float, default=1.5)
    options = parser.parse_args()
    usual, few = {"steps": 20, "guidance": options.guidance}, {"steps": 4, "guidance": 1.0}
    torch.set_grad_enabled(False)
    emojis, rgba = data.load()
    white = data.over_white(rgba)
    pipe = sample.pipeline()
    reconstruction = _reconstruction(pipe.vae, white)
    figures = {
        "names": _names(pipe, emojis, white, range(len(emojis)), options.names, usual),
        "icons": _names(pipe, emojis, white, [i for i, e in enumerate(emojis) if captions.is_icon(e)], options.names, usual),
        "colours": _colours(pipe, emojis, rgba, white, usual),
        "names_in_4_steps": _names(pipe, emojis, white, range(len(emojis)), options.names, few),
        "colours_in_4_steps": _colours(pipe, emojis, rgba, white, few),
        "vae_psnr_db": reconstruction[0],
        "vae_worst_tenth_db": reconstruction[1],
        "torch_cpu_seconds_a_picture": _speed(pipe, usual),
        "torch_cpu_seconds_in_4_steps": _speed(pipe, few),
        **_edges(pipe, usual),
    }
    (HERE / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    for name, prompts in (("sheet", SHOWN), ("composed", COMPOSED)):
        made = sample.pictures(pipe, list(prompts), seed=7, **usual)
        sample.sheet(made, 8).save(HERE / f"{name}.webp", quality=85)


def _small(pictures: np.ndarray) -> np.ndarray:
    """[N,H,W,3] in 0..1 → [N,32,32,3] by averaging."""
    side = pictures.shape[1] // 32
    return pictures.reshape(len(pictures), 32, side, 32, side, 3).mean((2, 4))


def _rank(made: np.ndarray, target: int, targets: np.ndarray) -> int:
    """How many of the set lie nearer than `target` does."""
    distances = ((targets - made) ** 2).reshape(len(targets), -1).sum(1)
    return int((distances < distances[target]).sum())


def _names(pipe, emojis, white, among, count, how) -> dict:
    drawn = random.Random(3).sample(list(among), min(count, len(among)))
    made = sample.pictures(pipe, [emojis[i].name for i in drawn], **how)
    targets = _small(white)
    ranks = [_rank(picture, i, targets) for picture, i in zip(_small(made / 255), drawn)]
    return {
        "pictures": len(drawn), "nearest": float(np.mean([r == 0 for r in ranks])),
        "among_10_nearest": float(np.mean([r < 10 for r in ranks])),
    }


def _colours(pipe, emojis, rgba, white, how) -> dict:
    """Everyday pictures in colours that were held out of the training."""
    pairs = []
    for i, emoji in enumerate(emojis):
        found = colour.dominant(rgba[i])
        if found and captions.is_core(emoji) and emoji.group not in ("Smileys & Emotion", "People & Body"):
            pairs += [(i, word) for word in colour.HUES if word != found[0] and captions.is_held_out(emoji.code, word)]
    drawn = random.Random(5).sample(pairs, min(40, len(pairs)))
    prompts = [f"{word} {captions.plain_name(emojis[i])}" for i, word in drawn]
    made = sample.pictures(pipe, prompts, **how)
    grey = np.array([0.299, 0.587, 0.114])
    targets = (_small(white) * grey).sum(-1)
    right = ranked = 0
    for picture, (i, word) in zip(made, drawn):
        hsv = colour.to_hsv(picture / 255.0)
        vivid = (hsv[..., 1] > 0.25) & (hsv[..., 2] > 0.2)
        if vivid.any():
            hues, _ = np.histogram(hsv[..., 0][vivid], bins=72, range=(0, 360), weights=hsv[..., 1][vivid])
            peak = 5 * int(np.argmax(hues)) + 2.5
            right += min(colour.HUES, key=lambda name: colour.distance(colour.HUES[name], peak)) == word
        ranked += _rank((_small(picture[None] / 255)[0] * grey).sum(-1), i, targets) < 20
    return {"prompts": len(drawn), "right_hue": right / len(drawn), "object_among_20": ranked / len(drawn)}


def _reconstruction(vae, white) -> tuple[float, float]:
    """Mean of the pictures' own PSNR, and that of the worst tenth."""
    pictures = torch.from_numpy(white).permute(0, 3, 1, 2) * 2 - 1
    found = []
    for part in pictures.split(32):
        output = vae.decode(vae.encode(part).latent_dist.mode()).sample.clamp(-1, 1)
        found += [-10 * math.log10(mse / 4) for mse in ((output - part) ** 2).mean((1, 2, 3)).tolist()]
    found.sort()
    return float(np.mean(found)), float(np.mean(found[: len(found) // 10]))


def _speed(pipe, how) -> float:
    """CPU time, which other work on the machine does not stretch; Signet's engine is measured by its own benchmark."""
    sample.pictures(pipe, ["a red apple"], steps=2)
    start = time.process_time()
    sample.pictures(pipe, ["a red apple"], **how)
    return time.process_time() - start


def _edges(pipe, how) -> dict:
    """An empty prompt and unknown words make a picture; two seeds make two."""
    made = sample.pictures(pipe, ["", "zxqv wug", "a red apple", "a red apple"], **how)
    spread = [float(picture.std()) for picture in made[:2]]
    return {"empty_and_unknown_prompt_spread": spread, "seeds_differ": float(np.abs(made[2].astype(int) - made[3]).mean())}


if __name__ == "__main__":
    main()
