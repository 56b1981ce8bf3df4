"""The denoiser: UNet2DConditionModel on 16×16×4 latents, trained together with the small text encoder.

v-prediction (Salimans and Ho 2022) on a schedule rescaled to zero terminal SNR (Lin et al. 2023): all pictures have
the same white background, and a schedule that never reaches pure noise would leak it in training and miss it later.
"""

import math
import random

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel

from . import captions, data, latents, parallel, text
from .paths import work_folder

BATCH = 32  # a worker
RATE = 1.2e-3
NO_CAPTION = 0.1  # share of empty captions, for guidance
CORE_SHARE = 0.7


def build() -> UNet2DConditionModel:
    """An untrained denoiser of 10.9 M parameters."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128, attention_head_dim=4, norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """The schedule that training and every sampler share."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )


def checkpoint():
    return work_folder() / "unet.pt"


def train(minutes: float) -> None:
    """Trains, or goes on, until `minutes` are spent in all."""
    if checkpoint().exists() and torch.load(checkpoint(), weights_only=True)["spent"] >= minutes * 60:
        return
    parallel.launch(_train, minutes)


class Both(torch.nn.Module):
    """Text encoder and denoiser as one module, so that they share optimizer and average."""

    def __init__(self, tokenizer):
        super().__init__()
        self.text, self.unet = text.build_encoder(tokenizer), build()


class Draw:
    """Draws training rows with captions; everyday pictures more often than the rest."""

    def __init__(self, seed: int):
        self.emojis, _ = data.load()
        self.latents, self.rows = latents.load()
        core = torch.tensor([captions.is_core(self.emojis[row[0]]) for row in self.rows])
        turned = torch.tensor([row[2] is not None for row in self.rows])
        self.weights = torch.ones(len(self.rows))
        for part, share in ((core & ~turned, CORE_SHARE * 0.7), (core & turned, CORE_SHARE * 0.3), (~core & ~turned, 0.26), (~core & turned, 0.04)):
            self.weights[part] = share / max(1, int(part.sum()))
        self.random = random.Random(seed)

    def batch(self) -> tuple[torch.Tensor, list[str]]:
        chosen = torch.multinomial(self.weights, BATCH, replacement=True).tolist()
        texts = []
        for at in chosen:
            index, natural, turned = self.rows[at]
            words = captions.caption(self.emojis[index], natural, turned, self.random)
            texts.append("" if self.random.random() < NO_CAPTION else words)
        return self.latents[chosen], texts


def _train(rank: int, minutes: float) -> None:
    tokenizer = text.load_tokenizer()
    torch.manual_seed(7)
    model = Both(tokenizer).train()
    model.unet.to(memory_format=torch.channels_last)
    ema = parallel.Ema(model, 0.998)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
    budget, step = parallel.Budget(minutes), 0
    if checkpoint().exists():
        state = torch.load(checkpoint(), weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.values, ema.steps, step, budget.spent = state["ema"], state["step"], state["step"], state["spent"]
    torch.manual_seed(1000 + rank + 10 * step)
    draw, alphas = Draw(1000 + rank + 10 * step), scheduler().alphas_cumprod
    saved, mean = budget.spent, 1.0
    while (progress := budget.progress()) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        clean, texts = draw.batch()
        loss = _loss(model, alphas, clean, text.token_ids(tokenizer, texts))
        optimizer.zero_grad()
        loss.backward()
        parallel.average_gradients(list(model.parameters()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model)
        step += 1
        mean += 0.02 * (loss.item() - mean)
        if rank == 0 and step % 50 == 0:
            print(f"unet step {step} {budget.spent:.0f}s loss {mean:.4f}", flush=True)
        if rank == 0 and budget.spent - saved > 90:
            saved = budget.spent
            _save(model, ema, optimizer, step, budget)
    if rank == 0:
        _save(model, ema, optimizer, step, budget)


def _save(model, ema, optimizer, step, budget) -> None:
    parallel.save(checkpoint(), model=model.state_dict(), ema=ema.values, optimizer=optimizer.state_dict(), step=step, spent=budget.spent)


def _loss(model: Both, alphas, clean, ids) -> torch.Tensor:
    noise = torch.randn_like(clean)
    # One stratum of the schedule a row: less variance than independent draws.
    times = ((torch.arange(BATCH) + torch.rand(BATCH)) / BATCH * len(alphas)).long().clamp(max=len(alphas) - 1)
    signal = alphas[times].sqrt().view(-1, 1, 1, 1)
    spread = (1 - alphas[times]).sqrt().view(-1, 1, 1, 1)
    noisy = (signal * clean + spread * noise).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        words = model.text(ids).last_hidden_state
        predicted = model.unet(noisy, times, words).sample
    return F.mse_loss(predicted.float(), signal * noise - spread * clean)


def load() -> Both:
    """The trained pair (moving average)."""
    model = Both(text.load_tokenizer()).eval()
    model.load_state_dict(torch.load(checkpoint(), weights_only=True)["ema"])
    return model
