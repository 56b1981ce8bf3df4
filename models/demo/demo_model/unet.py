"""The denoiser: UNet2DConditionModel on 16×16×4 latents, trained together with the small text encoder.

v-prediction (Salimans and Ho 2022) on a schedule rescaled to zero terminal SNR (Lin et al. 2023): all pictures have
the same white background, and a schedule that never reaches pure noise would leak it in training and miss it later.
"""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import captions, data, latents, parallel, text
from .draft import Draft
from .draft import checkpoint as draft_checkpoint
from .paths import work_folder
from .vae import CHANNELS

BATCH = 32  # a worker
DRAFT_NOISE = 0.4  # deviation of the noise on a training draft, at most: the draft is a hint, not the picture
DRAFT_LOSS = 0.2
DRAFT_ERROR = 0.01  # variance; less than measured, for noise left in shows as speckle
# The draft's share of the prediction rises from nothing to all between these deviations of the noise. Where it is
# all, the U-Net has no say and is not trained.
DRAFT_FROM, DRAFT_WHOLE = 0.9, 0.99
NO_CAPTION = 0.1  # share of empty captions, for guidance
AVERAGE_EVERY = 8  # steps each worker takes alone between two averages of the weights


@dataclass(frozen=True)
class Stage:
    """A stretch of the training: its highest rate, and how often rows of each kind are drawn."""

    name: str
    rate: float
    everyday: float  # everyday pictures as they are
    everyday_turned: float  # the same in other colours
    rest: float
    rest_turned: float
    drafted: bool = False  # whether the U-Net is given the draft


BROAD = Stage("broad", 1.2e-3, 0.49, 0.21, 0.26, 0.04)
EVERYDAY = Stage("everyday", 1.0e-3, 0.64, 0.21, 0.13, 0.02)
ICONS = Stage("icons", 1.0e-3, 0.72, 0.18, 0.08, 0.02)
DRAFTED = Stage("drafted", 1.0e-3, 0.16, 0.12, 0.60, 0.12, drafted=True)
STAGES = (BROAD, EVERYDAY, ICONS, DRAFTED)


class Denoiser(UNet2DConditionModel):
    """The standard U-Net, mixed with what the draft of the words says: the noisier the latents, the more the draft
    counts. The U-Net is given the draft too, as further input channels."""

    def forward(self, sample, timestep, encoder_hidden_states, **options):
        drafted = self.draft(encoder_hidden_states)
        # The draft has the trained size; other sizes get it stretched.
        drafted = F.interpolate(drafted.to(sample.dtype), size=sample.shape[-2:], mode="bilinear")
        power = self.powers[torch.as_tensor(timestep).reshape(-1).long()].view(-1, 1, 1, 1)
        share = (((1 - power).sqrt() - DRAFT_FROM) / (DRAFT_WHOLE - DRAFT_FROM)).clamp(0, 1)
        own = self.plain(torch.cat([sample, drafted], 1), timestep, encoder_hidden_states)
        made = (1 - share) * own + share * _expected(sample, power, drafted)
        return UNet2DConditionOutput(made) if options.get("return_dict", True) else (made,)

    def plain(self, sample, timestep, words):
        """The U-Net alone."""
        return super().forward(sample, timestep, words, return_dict=False)[0]


def _expected(noisy, power, drafted):
    """E[v | noisy, drafted] for pictures of unit variance and drafts off by DRAFT_ERROR; bounded at every timestep."""
    mixed = power.sqrt() * (1 - DRAFT_ERROR) * noisy - drafted
    return (1 - power).sqrt() * mixed / (1 - power + DRAFT_ERROR * power)


def build() -> Denoiser:
    """An untrained denoiser of 11.9 M parameters."""
    model = Denoiser(
        sample_size=16, in_channels=2 * CHANNELS, out_channels=CHANNELS, layers_per_block=1, block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128, attention_head_dim=4, norm_num_groups=16,
        # The pooled caption joins the timestep's embedding: words reach every block, not the attention alone.
        addition_embed_type="text", addition_embed_type_num_heads=8,
    )
    model.draft = Draft(128)
    model.register_buffer("powers", scheduler().alphas_cumprod.clone(), persistent=False)
    model.register_to_config(in_channels=CHANNELS)  # what a caller gives it
    return model


def scheduler() -> DDIMScheduler:
    """The schedule that training and every sampler share."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )


def checkpoint(stage: Stage):
    return work_folder() / f"unet-{stage.name}.pt"


def train(stages, minutes) -> None:
    """Trains, or goes on, until each stage has had its minutes of a worker's CPU time; each starts from the one before."""
    for stage, budget in zip(stages, minutes, strict=True):
        path = checkpoint(stage)
        if not path.exists() or torch.load(path, weights_only=True)["spent"] < budget * 60:
            parallel.launch(_train, stage, budget)


class Both(torch.nn.Module):
    """Text encoder and denoiser as one module, so that they share optimizer and average."""

    def __init__(self, tokenizer):
        super().__init__()
        self.text, self.unet = text.build_encoder(tokenizer), build()


class Draw:
    """Draws training rows with captions; everyday pictures more often than the rest."""

    def __init__(self, stage: Stage, seed: int, batch: int = BATCH, no_caption: float = NO_CAPTION):
        self.size, self.no_caption = batch, no_caption
        torch.manual_seed(seed)
        self.emojis, _ = data.load()
        self.latents, self.rows = latents.load()
        chosen = captions.is_icon if stage == ICONS else captions.is_core
        core = torch.tensor([chosen(self.emojis[row[0]]) for row in self.rows])
        turned = torch.tensor([row[2] is not None for row in self.rows])
        self.weights = torch.ones(len(self.rows))
        shares = (
            (core & ~turned, stage.everyday), (core & turned, stage.everyday_turned),
            (~core & ~turned, stage.rest), (~core & turned, stage.rest_turned),
        )
        for part, share in shares:
            self.weights[part] = share / max(1, int(part.sum()))
        self.random = random.Random(seed)

    def batch(self) -> tuple[torch.Tensor, list[str]]:
        chosen = torch.multinomial(self.weights, self.size, replacement=True).tolist()
        texts = []
        for at in chosen:
            index, natural, turned = self.rows[at]
            words = captions.caption(self.emojis[index], natural, turned, self.random)
            texts.append("" if self.random.random() < self.no_caption else words)
        return self.latents[chosen], texts


def _train(rank: int, stage: Stage, minutes: float) -> None:
    tokenizer = text.load_tokenizer()
    torch.manual_seed(7)
    model = Both(tokenizer).train()
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=stage.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    budget, step = parallel.Budget(minutes), 0
    if checkpoint(stage).exists():
        state = torch.load(checkpoint(stage), weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, budget.spent = state["step"], state["spent"]
    elif stage != BROAD:
        before = checkpoint(STAGES[STAGES.index(stage) - 1])
        model.load_state_dict(torch.load(before, weights_only=True)["ema"])
        if stage.drafted:
            made = torch.load(draft_checkpoint(), weights_only=True)["ema"]
            for name, part in (("text", model.text), ("draft", model.unet.draft)):
                part.load_state_dict({key[len(name) + 1:]: value for key, value in made.items() if key.startswith(f"{name}.")})
    ema = parallel.Ema(model, 0.93)
    if step:
        ema.values, ema.steps = state["ema"], step
    draw, alphas = Draw(stage, 1000 + rank + 10 * step), scheduler().alphas_cumprod
    clock, mean = parallel.Clock(), parallel.Mean(0.02)
    while (progress := budget.progress()) < 1:
        for _ in range(AVERAGE_EVERY):
            for group in optimizer.param_groups:
                group["lr"] = stage.rate * min(1, (step + 1) / 60) * parallel.falling(progress)
            clean, texts = draw.batch()
            loss = _loss(model, alphas, clean, text.token_ids(tokenizer, texts), stage)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            step += 1
            mean.add(loss.item())
        parallel.average(weights)
        ema.update(model)
        if rank == 0:
            parallel.tell(stage.name, step, budget, "loss", mean.value)
            if clock.due():
                _save(stage, model, ema, optimizer, step, budget)
    if rank == 0:
        _save(stage, model, ema, optimizer, step, budget)


def _save(stage, model, ema, optimizer, step, budget) -> None:
    parallel.save(
        checkpoint(stage), model=model.state_dict(), ema=ema.values, optimizer=optimizer.state_dict(), step=step,
        spent=budget.spent,
    )


def _loss(model: Both, alphas, clean, ids, stage: Stage) -> torch.Tensor:
    noise = torch.randn_like(clean)
    span = int(((1 - alphas).sqrt() < DRAFT_WHOLE).sum()) if stage.drafted else len(alphas)
    # One stratum of the schedule a row: less variance than independent draws.
    times = ((torch.arange(BATCH) + torch.rand(BATCH)) / BATCH * span).long().clamp(max=span - 1)
    signal = alphas[times].sqrt().view(-1, 1, 1, 1)
    spread = (1 - alphas[times]).sqrt().view(-1, 1, 1, 1)
    noisy = signal * clean + spread * noise
    # The fused attention kernel's backward takes twice the time of the plain one at these sizes.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel([SDPBackend.MATH]):
        words = model.text(ids).last_hidden_state
        if stage.drafted:
            drafted = model.unet.draft(words).float()
            hint = drafted.detach() + DRAFT_NOISE * torch.rand(BATCH, 1, 1, 1) * torch.randn_like(clean)
        else:
            hint = torch.zeros_like(noisy)
        predicted = model.unet.plain(torch.cat([noisy, hint], 1), times, words)
    loss = F.mse_loss(predicted.float(), signal * noise - spread * clean)
    return loss + DRAFT_LOSS * F.mse_loss(drafted, clean) if stage.drafted else loss


def load(stage: Stage = DRAFTED) -> Both:
    """The pair as the stage left it (moving average)."""
    model = Both(text.load_tokenizer()).eval()
    model.load_state_dict(torch.load(checkpoint(stage), weights_only=True)["ema"])
    return model
