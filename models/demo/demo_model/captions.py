"""What a picture is called: names, keywords, colour words, templates."""

import hashlib
import random
import re

from .colour import HUES
from .data import Emoji

TEMPLATES = ("{x}", "{x}", "a {x}", "a {x}", "a {x} on white", "a picture of a {x}", "{x} emoji")
# Words that name a colour inside a name; a recoloured picture loses them.
COLOUR_WORDS = {*HUES, "black", "white", "brown", "light", "dark"}
# About one in twenty (picture, colour) pairs is never trained on, so that composing can be measured.
HELD_OUT_SHARE = 20


def is_held_out(code: str, word: str) -> bool:
    """Whether this recoloured picture is kept for the evaluation."""
    return hashlib.sha256(f"{code} {word}".encode()).digest()[0] % HELD_OUT_SHARE == 0


def plain_name(emoji: Emoji) -> str:
    """The name without colour words."""
    words = emoji.name.replace(":", " ").replace(",", " ").split()
    return " ".join(word for word in words if word not in COLOUR_WORDS) or emoji.name


def is_core(emoji: Emoji) -> bool:
    """Pictures people ask for first; they are drawn more often while the training is short."""
    everyday = emoji.group in ("Animals & Nature", "Food & Drink") or "heart" in emoji.name
    return everyday or (emoji.group == "Smileys & Emotion" and "face" in emoji.name)


def caption(emoji: Emoji, natural: str | None, recoloured: str | None, rng: random.Random) -> str:
    """One caption; `natural` is the picture's own colour word, `recoloured` the one it was turned to."""
    subject = emoji.name.replace(":", "").replace(",", "")
    keywords = [word for word in emoji.keywords if not COLOUR_WORDS & set(word.split())]
    if recoloured:
        subject = plain_name(emoji)
    draw = rng.random()
    if keywords and draw < 0.1:
        subject = rng.choice(keywords)
    elif keywords and draw < 0.2:
        subject = f"{subject} {rng.choice(keywords)}"
    if recoloured:
        subject = f"{recoloured} {subject}"
    elif natural and not COLOUR_WORDS & set(subject.split()) and rng.random() < 0.25:
        subject = f"{natural} {subject}"
    text = rng.choice(TEMPLATES).format(x=subject)
    return re.sub(r"\ba (?=[aeiou])", "an ", text)
