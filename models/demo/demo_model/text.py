"""Tokenizer and text encoder: CLIP's standard parts, with a vocabulary of the captions' own words."""

import json
from itertools import chain

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

from . import captions, data
from .paths import work_folder

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 5500
# The pattern of CLIP's tokenizer.
PATTERN = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def folder():
    return work_folder() / "tokenizer"


def make_tokenizer() -> None:
    """Learns byte-pair merges from names, keywords and templates; writes vocab.json and merges.txt."""
    emojis, _ = data.load()
    words = chain(captions.COLOUR_WORDS, (t.format(x="") for t in captions.TEMPLATES), ["an the small big two three"])
    corpus = [*words] * 50 + [text for emoji in emojis for text in (emoji.name, emoji.name, *emoji.keywords)]
    learner = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=MERGES + 2 * len(alphabet), initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
        ),
    )
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    # Every byte, alone and at a word's end, so that no prompt has an unknown token.
    tokens = dict.fromkeys([*alphabet, *(f"{c}</w>" for c in alphabet), *(a + b for a, b in merges), START, END])
    folder().mkdir(exist_ok=True)
    (folder() / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
    (folder() / "merges.txt").write_text("\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges)]) + "\n")
    load_tokenizer().save_pretrained(folder())


def load_tokenizer() -> CLIPTokenizerFast:
    return CLIPTokenizerFast(
        str(folder() / "vocab.json"), str(folder() / "merges.txt"),
        bos_token=START, eos_token=END, unk_token=END, pad_token=END, model_max_length=77,
    )


def token_ids(tokenizer: CLIPTokenizerFast, texts: list[str]):
    """Ids of shape [texts, 77], padded and cut as diffusers' pipelines do."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids


def build_encoder(tokenizer: CLIPTokenizerFast) -> CLIPTextModel:
    """An untrained encoder of width 128."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=77, projection_dim=128, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
        )
    )
