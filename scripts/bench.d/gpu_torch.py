"""torch with compile on a denoiser and decoder of SD-Turbo's size, half precision, 512 x 512: ms a request, as JSON."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from gpu_timing import measure

torch.manual_seed(0)
options = {"device": "cuda", "dtype": torch.float16}
unet = UNet2DConditionModel(
    sample_size=64, cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True,
    block_out_channels=(320, 640, 1280, 1280), layers_per_block=2).eval().to(**options)
vae = AutoencoderKL(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4).eval().to(**options)
step = torch.compile(lambda x, t, text: unet(x, t, text, return_dict=False)[0], mode="max-autotune")
decode = torch.compile(lambda x: vae.decode(x, return_dict=False)[0], mode="max-autotune")


@torch.inference_mode()
def make(n: int, steps: int) -> None:
    latents = torch.randn(n, 4, 64, 64, **options)
    text = torch.randn(n, 77, 1024, **options)
    for _ in range(steps):
        latents = latents - 0.1 * step(latents, torch.full((n,), 500, device="cuda"), text)
    decode(latents).cpu()


measure(make, torch.__version__)
