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

# What the second stage of the training dwells on: pictures a visitor is likely to ask for.
EVERYDAY = frozenset((
    "grinning face|face with tears of joy|smiling face with heart-eyes|smiling face with sunglasses|winking face|"
    "thinking face|crying face|angry face|sleeping face|star-struck|face with tongue|partying face|nerd face|"
    "cowboy hat face|skull|pile of poo|clown face|ghost|alien|robot|grinning cat|monkey face|monkey|dog face|dog|"
    "wolf|fox|raccoon|cat face|cat|lion|tiger face|horse face|horse|unicorn|zebra|deer|cow face|cow|pig face|pig|"
    "giraffe|elephant|mouse face|rabbit face|rabbit|hedgehog|bat|bear|koala|panda|sloth|chicken|rooster|"
    "baby chick|bird|penguin|eagle|duck|swan|owl|flamingo|peacock|parrot|frog|crocodile|turtle|snake|dragon|t-rex|"
    "whale|dolphin|fish|tropical fish|shark|octopus|crab|snail|butterfly|honeybee|lady beetle|spider|rose|"
    "sunflower|tulip|evergreen tree|palm tree|cactus|four leaf clover|maple leaf|mushroom|grapes|watermelon|"
    "tangerine|lemon|banana|pineapple|mango|red apple|green apple|pear|peach|cherries|strawberry|blueberries|"
    "kiwi fruit|tomato|avocado|eggplant|carrot|ear of corn|hot pepper|broccoli|bread|croissant|pretzel|"
    "cheese wedge|hamburger|french fries|pizza|hot dog|taco|egg|popcorn|sushi|ice cream|soft ice cream|doughnut|"
    "cookie|birthday cake|cupcake|lollipop|hot beverage|beer mug|wine glass|house|castle|tent|automobile|bus|"
    "police car|fire engine|bicycle|train|sailboat|ship|airplane|rocket|flying saucer|sun|crescent moon|star|"
    "rainbow|cloud|umbrella|snowman|fire|droplet|volcano|mountain|crown|top hat|t-shirt|dress|guitar|gem stone|"
    "ring|light bulb|key|locked|camera|alarm clock|balloon|wrapped gift|christmas tree|trophy|soccer ball|"
    "basketball|teddy bear|jack-o-lantern|closed book|pencil|hammer|bomb"
).split("|"))

# What the last stage dwells on, so that at least these are plain to see after a short training.
ICONS = frozenset((
    "grinning face|smiling face with heart-eyes|smiling face with sunglasses|crying face|skull|ghost|alien|robot|"
    "monkey face|dog face|fox|cat face|lion|tiger face|unicorn|cow face|pig face|mouse face|rabbit face|bear|"
    "panda|baby chick|penguin|owl|frog|turtle|whale|fish|octopus|crab|butterfly|lady beetle|rose|sunflower|tulip|"
    "evergreen tree|cactus|mushroom|grapes|watermelon|tangerine|lemon|banana|pineapple|red apple|green apple|pear|"
    "peach|cherries|strawberry|avocado|carrot|hamburger|pizza|ice cream|doughnut|cookie|birthday cake|house|"
    "automobile|rocket|sun|crescent moon|star|rainbow|cloud|fire|crown|balloon|soccer ball|teddy bear"
).split("|"))


def is_held_out(code: str, word: str) -> bool:
    """Whether this recoloured picture is kept for the evaluation."""
    return hashlib.sha256(f"{code} {word}".encode()).digest()[0] % HELD_OUT_SHARE == 0


def plain_name(emoji: Emoji) -> str:
    """The name without colour words."""
    words = emoji.name.replace(":", " ").replace(",", " ").split()
    return " ".join(word for word in words if word not in COLOUR_WORDS) or emoji.name


def is_core(emoji: Emoji) -> bool:
    """Pictures people ask for first; they are drawn more often while the training is short."""
    return emoji.name in EVERYDAY or is_icon(emoji)


def is_icon(emoji: Emoji) -> bool:
    """The few that the last stage dwells on: `ICONS` and the plain hearts."""
    hues = ("red", "pink", "orange", "yellow", "green", "blue", "purple", "black", "white")
    return emoji.name in ICONS or emoji.name in [f"{hue} heart" for hue in hues]


def caption(emoji: Emoji, natural: str | None, recoloured: str | None, rng: random.Random) -> str:
    """One caption; `natural` is the picture's own colour word, `recoloured` the one it was turned to."""
    subject = emoji.name.replace(":", "").replace(",", "")
    keywords = [word for word in emoji.keywords if not COLOUR_WORDS & set(word.split())]
    if recoloured:
        subject = plain_name(emoji)
    elif rng.random() < 0.25:
        return emoji.name
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
