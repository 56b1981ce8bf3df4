"""The draft: what a caption alone says about the latents, by a small network that costs next to nothing.

A denoiser that starts from pure noise must first guess the whole picture from the words. Learnt inside the U-Net, that
guess costs the price of a U-Net for every picture seen; learnt by three dense layers behind the text encoder it costs a
hundredth, and the U-Net, which is given the draft as further input channels, need only make a picture of it.
"""

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import captions, data, latents, parallel, text
from .paths import work_folder
from .vae import CHANNELS

SIDE = 16  # of the latents
HIDDEN = 768
TOKENS = 16  # what of a caption it reads; the U-Net's attention reads all
BATCH = 128  # a worker
RATE = 2e-3
NO_CAPTION = 0.03
NAME = 4.0  # weight of a bare name in `settle`
AVERAGE_EVERY = 8  # steps each worker takes alone between two averages of the weights


class Draft(nn.Module):
    """Words [rows, tokens, width] → latents [rows, CHANNELS, SIDE, SIDE]."""

    def __init__(self, width: int):
        super().__init__()
        self.enter = nn.Linear(2 * width, HIDDEN)
        self.between = nn.Linear(HIDDEN, HIDDEN)
        self.leave = nn.Linear(HIDDEN, CHANNELS * SIDE * SIDE)

    def forward(self, words):
        return self.leave(self.pooled(words)).unflatten(1, (CHANNELS, SIDE, SIDE))

    def pooled(self, words):
        """What the last layer sees of the words."""
        words = words[:, :TOKENS]
        # The encoder is causal: the last token has seen all before it.
        pooled = F.silu(self.enter(torch.cat([words[:, -1], words.mean(1)], -1)))
        return pooled + F.silu(self.between(pooled))


def checkpoint():
    return work_folder() / "draft.pt"


def train(minutes: float) -> None:
    """Trains the draft and the text encoder, or goes on, until `minutes` of a worker's CPU time are spent."""
    path = checkpoint()
    if not path.exists() or torch.load(path, weights_only=True)["spent"] < minutes * 60:
        parallel.launch(_train, minutes)


def _train(rank: int, minutes: float) -> None:
    from . import unet  # which uses this module

    tokenizer = text.load_tokenizer()
    before = unet.load(unet.STAGES[-2])
    torch.manual_seed(7)
    model = nn.ModuleDict({"text": before.text, "draft": Draft(before.text.config.hidden_size)}).train()
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    budget, step = parallel.Budget(minutes), 0
    ema = parallel.Ema(model, 0.9)
    if checkpoint().exists():
        state = torch.load(checkpoint(), weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.values, ema.steps, step, budget.spent = state["ema"], state["step"], state["step"], state["spent"]
    seed = 1000 + rank + 10 * step
    draw = unet.Draw(unet.STAGES[-1], seed, BATCH, NO_CAPTION)
    clock, mean = parallel.Clock(), parallel.Mean(0.02)
    while (progress := budget.progress()) < 1:
        for _ in range(AVERAGE_EVERY):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 60) * parallel.falling(progress)
            clean, texts = draw.batch()
            # The fused attention kernel's backward alone would double the time.
            with torch.autocast("cpu", torch.bfloat16), sdpa_kernel([SDPBackend.MATH]):
                made = model["draft"](model["text"](text.token_ids(tokenizer, texts)[:, :TOKENS]).last_hidden_state)
            loss = F.mse_loss(made.float(), clean)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            step += 1
            mean.add(loss.item())
        parallel.average(weights)
        ema.update(model)
        if rank == 0 and step % 40 == 0:
            parallel.tell("draft", step, budget, "loss", mean.value)
        if rank == 0 and clock.due():
            _save(model, ema, optimizer, step, budget)
    if rank == 0:
        _save(model, ema, optimizer, step, budget)


@torch.no_grad()
def settle() -> None:
    """Solves the last layer as the least-squares problem that it is, over names and captions of all pictures; half a
    minute of further training would not bring as much."""
    state = torch.load(checkpoint(), weights_only=True)
    tokenizer = text.load_tokenizer()
    encoder = text.build_encoder(tokenizer).eval()
    model = nn.ModuleDict({"text": encoder, "draft": Draft(encoder.config.hidden_size)})
    model.load_state_dict(state["ema"])
    texts, targets, weights = _lessons()
    seen = [
        model["draft"].pooled(encoder(text.token_ids(tokenizer, texts[at : at + BATCH])[:, :TOKENS]).last_hidden_state)
        for at in range(0, len(texts), BATCH)
    ]
    seen = F.pad(torch.cat(seen), (0, 1), value=1.0).double()
    leave = model["draft"].leave
    before = torch.cat([leave.weight.T, leave.bias[None]]).double()
    left = targets.double() - seen @ before
    normal = seen.T @ (weights * seen)
    # A little ridge: what the captions do not settle stays as it was learnt.
    normal += 1e-3 * normal.diagonal().mean() * torch.eye(len(normal), dtype=torch.float64)
    change = torch.linalg.solve(normal, seen.T @ (weights * left))
    leave.weight += change[:-1].T.float()
    leave.bias += change[-1].float()
    after = (left - seen @ change).square()
    print(f"draft: squared error of names {left[weights[:, 0] == NAME].square().mean():.4f} → {after[weights[:, 0] == NAME].mean():.4f}")
    parallel.save(checkpoint(), **(state | {"ema": model.state_dict()}))


def _lessons() -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Texts, flat latents and weights: each picture's name and two captions, each recoloured form's caption, and the
    empty text with the mean picture."""
    emojis, _ = data.load()
    pictures, rows = latents.load()
    rng, texts, at, weights = random.Random(1), [], [], []
    for place, (index, natural, turned) in enumerate(rows):
        if turned is None:
            texts.append(emojis[index].name)
        texts += [captions.caption(emojis[index], natural, turned, rng) for _ in range(1 if turned else 2)]
        at += [place] * (1 if turned else 3)
        weights += [0.6] if turned else [NAME, 1.0, 1.0]
    own = pictures[[place for place, row in enumerate(rows) if row[2] is None]]
    targets = torch.cat([pictures[at], own.mean(0, keepdim=True)]).flatten(1)
    return [*texts, ""], targets, torch.tensor([*weights, 40.0], dtype=torch.float64)[:, None]


def _save(model, ema, optimizer, step, budget) -> None:
    parallel.save(checkpoint(), model=model.state_dict(), ema=ema.values, optimizer=optimizer.state_dict(), step=step, spent=budget.spent)
