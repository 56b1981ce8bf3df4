"""A second training of the autoencoder's decoder alone: the encoder stays, and with it the latents that the denoiser
has learnt."""

import torch

from . import data, parallel, vae
from .paths import work_folder

RATE = 1e-3
AVERAGE_EVERY = 4  # steps each worker takes alone between two averages of the weights
PARTS = ("post_quant_conv.", "decoder.")


def checkpoint():
    return work_folder() / "decoder.pt"


def train(minutes: float) -> None:
    """Trains, or goes on, until `minutes` of a worker's CPU time are spent."""
    if not checkpoint().exists() or torch.load(checkpoint(), weights_only=True)["spent"] < minutes * 60:
        parallel.launch(_train, minutes)


def apply(model) -> None:
    """Puts the trained decoder (moving average), where there is one, into an autoencoder as `vae.py` left it."""
    if checkpoint().exists():
        made = torch.load(checkpoint(), weights_only=True)["ema"]
        model.load_state_dict({key: value for key, value in made.items() if key.startswith(PARTS)}, strict=False)


def _train(rank: int, minutes: float) -> None:
    _, rgba = data.load()
    pictures = torch.from_numpy(data.over_white(rgba)).permute(0, 3, 1, 2)
    # Channels first: with so few channels, oneDNN's backward is 40 % faster than in the channels-last layout.
    model = vae.build().train()
    model.load_state_dict(torch.load(vae.checkpoint(), weights_only=True)["ema"])
    model.requires_grad_(False)
    weights = [value for name, value in model.named_parameters() if name.startswith(PARTS)]
    for value in weights:
        value.requires_grad_(True)
    ema = parallel.Ema(model, 0.98)
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    budget, step = parallel.Budget(minutes), 0
    if checkpoint().exists():
        state = torch.load(checkpoint(), weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.values, ema.steps, step, budget.spent = state["ema"], state["step"], state["step"], state["spent"]
    torch.manual_seed(1000 + rank + 10 * step)
    clock, mean = parallel.Clock(), parallel.Mean(0.01)
    while (progress := budget.progress()) < 1:
        for _ in range(AVERAGE_EVERY):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 100) * parallel.falling(progress)
            target = vae.batch(pictures)
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    latent = model.encode(target).latent_dist.sample()
                output = model.decode(latent).sample
            loss, psnr = _loss(output.float(), target)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            step += 1
            mean.add(psnr)
        parallel.average(weights)
        ema.update(model)
        if rank == 0 and step % 40 == 0:
            parallel.tell("decoder", step, budget, "PSNR, dB", mean.value)
        if rank == 0 and clock.due():
            _save(model, ema, optimizer, step, budget)
    if rank == 0:
        _save(model, ema, optimizer, step, budget)


def _save(model, ema, optimizer, step, budget) -> None:
    parallel.save(checkpoint(), model=model.state_dict(), ema=ema.values, optimizer=optimizer.state_dict(), step=step, spent=budget.spent)


def _loss(output, target):
    """What is measured, the mean of the pictures' own PSNR, with L1 and the gradients' L1 (edges) for sharpness."""
    errors = (output - target).square().mean((1, 2, 3))
    edges = sum((output.diff(dim=axis) - target.diff(dim=axis)).abs().mean() for axis in (2, 3))
    loss = 0.05 * (errors + 1e-5).log().mean() + 0.3 * ((output - target).abs().mean() + edges)
    return loss, -10 * (errors / 4).log10().mean().item()
