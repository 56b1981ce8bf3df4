"""The autoencoder: 128×128 RGB ↔ 16×16×4 latents, diffusers' AutoencoderKL with four small blocks."""

import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from . import data, parallel
from .paths import work_folder

BATCH = 8  # a worker
RATE = 2e-3
CHANNELS = 4  # of the latents


def build() -> AutoencoderKL:
    """An untrained autoencoder."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=CHANNELS, block_out_channels=(16, 32, 64, 96), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8, mid_block_add_attention=False, sample_size=128, scaling_factor=1.0,
    )


def checkpoint():
    return work_folder() / "vae.pt"


def train(minutes: float) -> None:
    """Trains, or goes on, until `minutes` are spent in all."""
    if checkpoint().exists() and torch.load(checkpoint(), weights_only=True)["spent"] >= minutes * 60:
        return
    parallel.launch(_train, minutes)


def _train(rank: int, minutes: float) -> None:
    _, rgba = data.load()
    pictures = torch.from_numpy(data.over_white(rgba)).permute(0, 3, 1, 2)
    torch.manual_seed(7)
    model = build().train()
    ema = parallel.Ema(model, 0.995)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    budget, step = parallel.Budget(minutes), 0
    if checkpoint().exists():
        state = torch.load(checkpoint(), weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.values, ema.steps, step, budget.spent = state["ema"], state["step"], state["step"], state["spent"]
    torch.manual_seed(1000 + rank + 10 * step)
    saved = budget.spent
    while (progress := budget.progress()) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        target = batch(pictures)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(target).latent_dist
            output = model.decode(posterior.sample()).sample
        loss, mse = _loss(output.float(), target, posterior)
        optimizer.zero_grad()
        loss.backward()
        parallel.average_gradients(list(model.parameters()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model)
        step += 1
        if rank == 0 and step % 50 == 0:
            parallel.tell("vae", step, budget, "PSNR, dB", -10 * math.log10(mse / 4))
        if rank == 0 and budget.spent - saved > 60:
            saved = budget.spent
            _save(model, ema, optimizer, step, budget)
    if rank == 0:
        _save(model, ema, optimizer, step, budget)


def _save(model, ema, optimizer, step, budget) -> None:
    parallel.save(checkpoint(), model=model.state_dict(), ema=ema.values, optimizer=optimizer.state_dict(), step=step, spent=budget.spent)


def batch(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in -1..1; a third with permuted colour channels, all mirrored half of the time."""
    drawn = pictures[torch.randint(len(pictures), (BATCH,))]
    for row in range(BATCH):
        if torch.rand(()) < 0.33:
            drawn[row] = drawn[row, torch.randperm(3)]
        if torch.rand(()) < 0.5:
            drawn[row] = drawn[row].flip(-1)
    return drawn * 2 - 1


def _loss(output, target, posterior):
    """L1, the gradients' L1 (edges), a little MSE, and just enough KL to keep latents near unit size."""
    mse = F.mse_loss(output, target)
    edges = sum((output.diff(dim=axis) - target.diff(dim=axis)).abs().mean() for axis in (2, 3))
    kl = posterior.kl().float().mean() / (16 * 16 * 4)
    return (output - target).abs().mean() + edges + 2 * mse + 1e-5 * kl, mse.item()


def load() -> AutoencoderKL:
    """The trained autoencoder (moving average), with its latents shifted and scaled to mean 0 and deviation 1 over
    the set, so that pipelines which know only a scaling factor of 1 fit."""
    model = build().eval()
    model.load_state_dict(torch.load(checkpoint(), weights_only=True)["ema"])
    from . import decoder  # which uses this module

    decoder.apply(model)
    _, rgba = data.load()
    pictures = torch.from_numpy(data.over_white(rgba)).permute(0, 3, 1, 2) * 2 - 1
    with torch.no_grad():
        latents = torch.cat([model.encode(part).latent_dist.mode() for part in pictures[::4].split(64)])
        mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        # z' = (z - mean) / std in the last convolution of the encoder, undone in the first of the decoder.
        quant, post = model.quant_conv, model.post_quant_conv
        quant.weight[:CHANNELS] /= std.view(-1, 1, 1, 1)
        quant.bias[:CHANNELS] = (quant.bias[:CHANNELS] - mean) / std
        quant.bias[CHANNELS:] -= 2 * std.log()
        post.bias += (post.weight[:, :, 0, 0] * mean).sum(1)
        post.weight *= std.view(1, -1, 1, 1)
    return model
