"""Writes a tiny random pipeline in ONNX beside this file and what diffusers makes of it.

Run with the reference environment (torch, diffusers 0.39.0, transformers, onnx); the ordinary
tests read the results: `model/` (a folder as Optimum exports it, but with a timestep for every
row), `latents.f32` (after every step of every case), `pictures.u8`, `goldens.json`.
"""

import json
import pathlib
import shutil
import sys

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "schedulers"))
import noise  # noqa: E402

HERE = pathlib.Path(__file__).parent
MODEL = HERE / "model"
SIDE, FACTOR, CHANNELS, SEED = 64, 8, 4, 90210
SHAPE = (1, CHANNELS, SIDE // FACTOR, SIDE // FACTOR)
COUNT = int(np.prod(SHAPE))
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, prediction_type="v_prediction")


def tokenizer(folder):
    """A byte-level CLIP vocabulary with a handful of merges."""
    kept = list(range(ord("!"), ord("~") + 1)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    letters = [chr(b) for b in kept] + [chr(256 + n) for n in range(256 - len(kept))]
    merges = ["r e", "re d</w>", "a p", "p l", "ap pl", "appl e</w>", "h e", "he a", "hea r", "hear t</w>", "t h", "th e</w>"]
    words = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "!", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    made = CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="!", model_max_length=77)
    return made, len(words)


def networks(words):
    torch.manual_seed(5)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=words - 2, eos_token_id=words - 1, projection_dim=16))
    unet = UNet2DConditionModel(
        sample_size=SIDE // FACTOR, in_channels=CHANNELS, out_channels=CHANNELS, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32), cross_attention_dim=16, norm_num_groups=4, attention_head_dim=8)
    levels = 4
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels, latent_channels=CHANNELS, norm_num_groups=2, sample_size=SIDE,
        scaling_factor=0.5)
    return text.eval(), unet.eval(), vae.eval()


class Call(torch.nn.Module):
    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs):
        return self.call(self.module, *inputs)


def export(name, module, call, inputs, names, outputs, config):
    folder = MODEL / name
    folder.mkdir(parents=True, exist_ok=True)
    sides = {0: "batch", 2: "height", 3: "width"}
    axes = {n: sides if v.dim() == 4 else {0: "batch"} for n, v in zip(names, inputs)}
    axes.update({n: sides if name != "text_encoder" else {0: "batch"} for n in outputs})
    torch.onnx.export(
        Call(module, call).eval(), tuple(inputs), str(folder / "model.onnx"), input_names=names, output_names=outputs,
        dynamic_axes=axes, dynamo=False, opset_version=18)
    (folder / "config.json").write_text(json.dumps(config, default=str, sort_keys=True))


def export_all(text, unet, vae):
    ids = torch.zeros(1, 77, dtype=torch.int64)
    export("text_encoder", text, lambda m, i: m(i)[:2], [ids], ["input_ids"],
           ["last_hidden_state", "pooler_output"], {"max_position_embeddings": 77})
    latents = torch.randn(2, *SHAPE[1:])
    export("unet", unet, lambda m, s, t, e: m(s, t, e, return_dict=False)[0],
           [latents, torch.tensor([1.0, 2.0]), torch.randn(2, 77, 16)],
           ["sample", "timestep", "encoder_hidden_states"], ["out_sample"], dict(unet.config))
    export("vae_decoder", vae, lambda m, z: m.decode(z, return_dict=False)[0], [latents[:1]],
           ["latent_sample"], ["sample"], dict(vae.config))
    export("vae_encoder", vae, lambda m, x: m.encode(x, return_dict=False)[0].parameters,
           [torch.randn(1, 3, SIDE, SIDE)], ["sample"], ["latent_parameters"], dict(vae.config))
    (MODEL / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (MODEL / "scheduler").mkdir()


def start_picture():
    """A picture to start from, by formula: red rises to the right, green downwards."""
    ramp = np.arange(SIDE, dtype=np.uint8) * 4
    picture = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = ramp[None, :], ramp[:, None], 77
    return picture


def draws(seed):
    """Stands for torch's generator: the first latents, then the noise of the steps."""
    number = iter(range(10_000))
    return lambda shape=SHAPE, **_: torch.from_numpy(noise.draw(seed, next(number), COUNT)).reshape(SHAPE)


def run(parts, case):
    scheduler = getattr(diffusers, case["class"])(**case["options"])
    image = "strength" in case
    pipe_class = StableDiffusionImg2ImgPipeline if image else StableDiffusionPipeline
    pipe = pipe_class(**parts, scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    source = draws(case["seed"])
    module = sys.modules[type(scheduler).__module__]
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = source
    steps = []

    def after(_, __, ___, values):
        steps.append(values["latents"].numpy().copy().reshape(-1))
        return {}

    options = dict(
        prompt=case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"],
        guidance_scale=case["guidance"], callback_on_step_end=after, output_type="np")
    if image:
        img2img = sys.modules[StableDiffusionImg2ImgPipeline.__module__]
        vae_module = sys.modules["diffusers.models.autoencoders.vae"]
        img2img.randn_tensor = source
        vae_module.randn_tensor = draws(~case["seed"] & (2**64 - 1))
        options |= dict(image=torch.from_numpy(start_picture()).permute(2, 0, 1)[None].float() / 255, strength=case["strength"])
    else:
        options |= dict(latents=source(), height=SIDE, width=SIDE)
    picture = pipe(**options).images[0]
    config = json.loads(scheduler.to_json_string().replace("-Infinity", "null"))
    return steps, (picture * 255).round().astype(np.uint8), config


def cases():
    base = dict(prompt="a red apple", negative="", seed=SEED, steps=6, guidance=7.5)
    ddim = dict(SD, clip_sample=False, set_alpha_to_one=False)
    yield base | {"class": "DDIMScheduler", "options": ddim}
    yield base | {"class": "DDIMScheduler", "options": dict(ddim, prediction_type="epsilon"), "guidance": 1.0}
    yield base | {"class": "DDIMScheduler", "options": dict(ddim, rescale_betas_zero_snr=True, timestep_spacing="trailing"),
                  "prompt": "THE  Red\tHeart's 12 apples, été!", "negative": "the apple", "guidance": 3.0}
    yield base | {"class": "EulerDiscreteScheduler", "options": SD, "prompt": "red " * 100}
    yield base | {"class": "EulerAncestralDiscreteScheduler", "options": SD, "seed": 2**40 + 3}
    yield base | {"class": "PNDMScheduler", "options": dict(SD, skip_prk_steps=True)}
    yield base | {"class": "DPMSolverMultistepScheduler", "options": dict(SD, use_karras_sigmas=True), "prompt": ""}
    yield base | {"class": "LCMScheduler", "options": SD, "steps": 4, "guidance": 2.0}
    yield base | {"class": "DDIMScheduler", "options": ddim, "strength": 0.6}
    yield base | {"class": "EulerDiscreteScheduler", "options": SD, "strength": 0.5, "steps": 8}


@torch.no_grad()
def main():
    shutil.rmtree(MODEL, ignore_errors=True)
    tok, words = tokenizer(MODEL / "tokenizer")
    text, unet, vae = networks(words)
    export_all(text, unet, vae)
    parts = dict(tokenizer=tok, text_encoder=text, unet=unet, vae=vae)
    found, latents, pictures = [], [], []
    for case in cases():
        steps, picture, config = run(parts, case)
        latents += steps
        pictures.append(picture)
        ids = tok(case["prompt"], padding="max_length", max_length=77, truncation=True).input_ids
        found.append({k: v for k, v in case.items() if k not in ("class", "options")} | {"scheduler": config, "calls": len(steps), "ids": ids})
    (MODEL / "scheduler" / "scheduler_config.json").write_text(json.dumps(found[0]["scheduler"]))
    np.concatenate(latents).astype("<f4").tofile(HERE / "latents.f32")
    np.concatenate([p.reshape(-1) for p in pictures]).tofile(HERE / "pictures.u8")
    head = {"diffusers": diffusers.__version__, "torch": torch.__version__, "side": SIDE, "count": COUNT}
    lines = ",\n".join(json.dumps(case) for case in found)
    (HERE / "goldens.json").write_text(json.dumps(head)[:-1] + f', "cases": [\n{lines}\n]}}\n')


main()
