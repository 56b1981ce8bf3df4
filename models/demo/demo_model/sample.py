"""Pictures from the exported model or, for a look while it trains, from the checkpoint; and contact sheets of them."""

import numpy as np
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image

from . import export

SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


def pipeline(sampler: str = "ddim") -> StableDiffusionPipeline:
    """diffusers' own pipeline over the weights that the export stores."""
    tokenizer, encoder, denoiser, autoencoder = export.rounded()
    from . import unet

    pipe = StableDiffusionPipeline(
        vae=autoencoder, text_encoder=encoder, tokenizer=tokenizer, unet=denoiser,
        scheduler=SAMPLERS[sampler].from_config(unet.scheduler().config),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pictures(pipe, prompts: list[str], steps: int = 20, guidance: float = 3.0, seed: int = 0, batch: int = 32) -> np.ndarray:
    """One uint8 picture a prompt; each prompt's noise depends on the seed and its place alone."""
    out = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        noise = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        made = pipe(part, num_inference_steps=steps, guidance_scale=guidance, generator=noise, height=128, width=128, output_type="np")
        out.append(np.round(made.images * 255).astype(np.uint8))
    return np.concatenate(out)


def sheet(pictures: np.ndarray, columns: int) -> Image.Image:
    """Pictures side by side, row by row."""
    side = pictures.shape[1]
    rows = -(-len(pictures) // columns)
    page = np.full((rows * side, columns * side, 3), 255, np.uint8)
    for at, picture in enumerate(pictures):
        y, x = at // columns * side, at % columns * side
        page[y : y + side, x : x + side] = picture
    return Image.fromarray(page)
