"""Writes tiny random pipelines in ONNX beside this file and what diffusers makes of them.

Run with the reference environment (torch, diffusers 0.39.0, transformers, onnx); the ordinary
tests read the results: a folder a family (`model`: Stable Diffusion, with a timestep for every
row; `model-xl`: SDXL and `model-lcm`: LCM, with one timestep for all as Optimum exports it),
`latents.f32` (after every step of every case), `pictures.u8`, `goldens.json`.
"""

import json
import pathlib
import shutil
import sys

import diffusers
import numpy as np
import PIL.Image
import torch
from diffusers import (
    AutoencoderKL, LatentConsistencyModelPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline,
    StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizerFast

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "schedulers"))
import noise  # noqa: E402

HERE = pathlib.Path(__file__).parent
SIDE, FACTOR, CHANNELS, SEED = 64, 8, 4, 90210
SHAPE = (1, CHANNELS, SIDE // FACTOR, SIDE // FACTOR)
COUNT = int(np.prod(SHAPE))
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, prediction_type="v_prediction")


def tokenizer(folder, pad="!"):
    """A byte-level CLIP vocabulary with a handful of merges."""
    kept = list(range(ord("!"), ord("~") + 1)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    letters = [chr(b) for b in kept] + [chr(256 + n) for n in range(256 - len(kept))]
    merges = ["r e", "re d</w>", "a p", "p l", "ap pl", "appl e</w>", "h e", "he a", "hea r", "hear t</w>", "t h", "th e</w>"]
    words = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": pad, "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    made = CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token=pad, model_max_length=77)
    return made, len(words)


def text_config(words, width):
    return CLIPTextConfig(
        vocab_size=words, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=words - 2, eos_token_id=words - 1, projection_dim=width)


def denoiser(channels, width, **more):
    return UNet2DConditionModel(
        sample_size=SIDE // FACTOR, in_channels=CHANNELS, out_channels=CHANNELS, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=channels, cross_attention_dim=width, norm_num_groups=4, attention_head_dim=8, **more).eval()


def autoencoder():
    levels = 4
    return AutoencoderKL(
        block_out_channels=(4, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels, latent_channels=CHANNELS, norm_num_groups=2, sample_size=SIDE,
        scaling_factor=0.5).eval()


class Call(torch.nn.Module):
    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs):
        return self.call(self.module, *inputs)


def export(folder, module, call, inputs, names, outputs, config, scalar=()):
    folder.mkdir(parents=True, exist_ok=True)
    sides = {0: "batch", 2: "height", 3: "width"}
    axes = {n: sides if v.dim() == 4 else {0: "batch"} for n, v in zip(names, inputs) if n not in scalar}
    axes.update({n: sides if "sample" in n or "latent" in n else {0: "batch"} for n in outputs})
    torch.onnx.export(
        Call(module, call).eval(), tuple(inputs), str(folder / "model.onnx"), input_names=names, output_names=outputs,
        dynamic_axes=axes, dynamo=False, opset_version=18)
    (folder / "config.json").write_text(json.dumps(config, default=str, sort_keys=True))


def export_text(folder, text, projected=False):
    ids = torch.zeros(1, 77, dtype=torch.int64)
    layers = [f"hidden_states.{i}" for i in range(3)]
    outputs = ["text_embeds", "last_hidden_state"] if projected else ["last_hidden_state", "pooler_output"]

    def call(module, ids):
        out = module(ids, output_hidden_states=True)
        return (*out[:2], *out.hidden_states)

    export(folder, text, call, [ids], ["input_ids"], outputs + layers, {"max_position_embeddings": 77})


def export_unet(folder, unet, width, per_row, extra):
    time = torch.tensor([1.0, 2.0]) if per_row else torch.tensor(1.0)
    inputs = [torch.randn(2, *SHAPE[1:]), time, torch.randn(2, 77, width), *extra.values()]

    def call(module, sample, time, text, *more):
        named = dict(zip(extra, more))
        cond = named.pop("timestep_cond", None)
        return module(sample, time, text, timestep_cond=cond, added_cond_kwargs=named or None, return_dict=False)[0]

    export(folder, unet, call, inputs, ["sample", "timestep", "encoder_hidden_states", *extra], ["out_sample"],
           dict(unet.config), scalar=() if per_row else ("timestep",))


def export_vae(model, vae):
    export(model / "vae_decoder", vae, lambda m, z: m.decode(z, return_dict=False)[0], [torch.randn(*SHAPE)],
           ["latent_sample"], ["sample"], dict(vae.config))
    export(model / "vae_encoder", vae, lambda m, x: m.encode(x, return_dict=False)[0].parameters,
           [torch.randn(1, 3, SIDE, SIDE)], ["sample"], ["latent_parameters"], dict(vae.config))


def fresh(name, index):
    model = HERE / name
    shutil.rmtree(model, ignore_errors=True)
    (model / "scheduler").mkdir(parents=True)
    (model / "model_index.json").write_text(json.dumps(index))
    return model


def stable_diffusion():
    model = fresh("model", {"_class_name": "StableDiffusionPipeline"})
    tok, words = tokenizer(model / "tokenizer")
    torch.manual_seed(5)
    text, unet, vae = CLIPTextModel(text_config(words, 16)).eval(), denoiser((16, 32), 16), autoencoder()
    export_text(model / "text_encoder", text)
    export_unet(model / "unet", unet, 16, True, {})
    export_vae(model, vae)
    return dict(tokenizer=tok, text_encoder=text, unet=unet, vae=vae)


def stable_diffusion_xl():
    model = fresh("model-xl", {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True})
    first, words = tokenizer(model / "tokenizer", "<|endoftext|>")
    second, _ = tokenizer(model / "tokenizer_2")
    torch.manual_seed(6)
    one = CLIPTextModel(text_config(words, 8)).eval()
    two = CLIPTextModelWithProjection(text_config(words, 16)).eval()
    unet = denoiser((8, 16), 24, addition_embed_type="text_time", addition_time_embed_dim=8,
                    projection_class_embeddings_input_dim=6 * 8 + 16)
    vae = autoencoder()
    export_text(model / "text_encoder", one)
    export_text(model / "text_encoder_2", two, projected=True)
    export_unet(model / "unet", unet, 24, False, {"text_embeds": torch.randn(2, 16), "time_ids": torch.randn(2, 6)})
    export_vae(model, vae)
    return dict(tokenizer=first, tokenizer_2=second, text_encoder=one, text_encoder_2=two, unet=unet, vae=vae)


def latent_consistency():
    model = fresh("model-lcm", {"_class_name": "LatentConsistencyModelPipeline"})
    tok, words = tokenizer(model / "tokenizer")
    torch.manual_seed(7)
    text, unet, vae = CLIPTextModel(text_config(words, 16)).eval(), denoiser((8, 16), 16, time_cond_proj_dim=10), autoencoder()
    export_text(model / "text_encoder", text)
    export_unet(model / "unet", unet, 16, False, {"timestep_cond": torch.randn(2, 10)})
    export_vae(model, vae)
    return dict(tokenizer=tok, text_encoder=text, unet=unet, vae=vae)


def start_picture():
    """A picture to start from, by formula: red rises to the right, green downwards."""
    ramp = np.arange(SIDE, dtype=np.uint8) * 4
    picture = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = ramp[None, :], ramp[:, None], 77
    return picture


def mask():
    """White is painted anew: the right half and a bit, off the grid of the latents."""
    white = torch.zeros(1, 1, SIDE, SIDE)
    white[..., SIDE // 2 - 5:] = 1
    return white


def pasted(pipe, picture):
    """What diffusers' overlay makes of a picture, the mask faded where it paints, not where it keeps: over half a latent."""
    rim = FACTOR // 2
    kept = np.argwhere(mask()[0, 0].numpy() < 0.5)
    fade = np.ones((SIDE, SIDE))
    for y in range(SIDE):
        for x in range(SIDE):
            fade[y, x] = min(1.0, np.sqrt(((kept - (y, x)) ** 2).sum(axis=1).min()) / (rim + 1))
    over = [PIL.Image.fromarray(part) for part in ((fade * 255).round().astype(np.uint8), start_picture(), picture)]
    return np.asarray(pipe.image_processor.apply_overlay(*over))


def draws(seed):
    """Stands for torch's generator: the first latents, then the noise of the steps."""
    number = iter(range(10_000))
    return lambda shape=SHAPE, **_: torch.from_numpy(noise.draw(seed, next(number), COUNT)).reshape(SHAPE)


def run(parts, case):
    scheduler = getattr(diffusers, case["class"])(**case["options"])
    image = "strength" in case
    plain = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    if case["model"] == "model-xl":
        pipe = StableDiffusionXLPipeline(**parts, scheduler=scheduler, force_zeros_for_empty_prompt=True, add_watermarker=False)
    elif case["model"] == "model-lcm":
        pipe = LatentConsistencyModelPipeline(**parts, scheduler=scheduler, **plain)
    else:
        pipe = StableDiffusionImg2ImgPipeline if image else StableDiffusionPipeline
        pipe = StableDiffusionInpaintPipeline if "mask" in case else pipe
        pipe = pipe(**parts, scheduler=scheduler, **plain)
    return follow(pipe, case)


def follow(pipe, case):
    """Runs a pipeline: latents after every step, the picture, the scheduler's configuration."""
    scheduler, image = pipe.scheduler, "strength" in case
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
        prompt=case["prompt"], num_inference_steps=case["steps"],
        guidance_scale=case["guidance"], callback_on_step_end=after, output_type="np")
    if not isinstance(pipe, LatentConsistencyModelPipeline):
        options["negative_prompt"] = case["negative"] or None
    if image:
        vae_module = sys.modules["diffusers.models.autoencoders.vae"]
        sys.modules[type(pipe).__module__].randn_tensor = source
        vae_module.randn_tensor = draws(~case["seed"] & (2**64 - 1))
        options |= dict(image=torch.from_numpy(start_picture()).permute(2, 0, 1)[None].float() / 255, strength=case["strength"])
        if "mask" in case:
            options |= dict(mask_image=mask(), height=SIDE, width=SIDE)
    else:
        options |= dict(latents=source(), height=SIDE, width=SIDE)
    picture = (pipe(**options).images[0] * 255).round().astype(np.uint8)
    config = json.loads(scheduler.to_json_string().replace("-Infinity", "null"))
    return steps, pasted(pipe, picture) if "mask" in case else picture, config


def cases():
    base = dict(model="model", prompt="a red apple", negative="", seed=SEED, steps=6, guidance=7.5)
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
    yield base | {"class": "DDIMScheduler", "options": ddim, "strength": 1.0, "mask": "right half"}
    yield base | {"class": "EulerDiscreteScheduler", "options": SD, "strength": 0.6, "mask": "right half"}
    xl = base | {"model": "model-xl", "guidance": 5.0}
    plain = dict(SD, prediction_type="epsilon")
    yield xl | {"class": "EulerDiscreteScheduler", "options": dict(plain, timestep_spacing="leading")}
    yield xl | {"class": "DPMSolverMultistepScheduler", "options": dict(plain, use_karras_sigmas=True), "negative": "the heart"}
    # As SDXL-Turbo: one step, no guidance.
    yield xl | {"class": "EulerAncestralDiscreteScheduler", "options": dict(plain, timestep_spacing="trailing"), "steps": 1, "guidance": 0.0}
    yield base | {"model": "model-lcm", "class": "LCMScheduler", "options": plain, "steps": 4, "guidance": 8.5}


@torch.no_grad()
def main():
    families = {"model": stable_diffusion(), "model-xl": stable_diffusion_xl(), "model-lcm": latent_consistency()}
    tok = families["model"]["tokenizer"]
    results = [(case, *run(families[case["model"]], case)) for case in cases()]
    for case, _, _, config in reversed(results):
        (HERE / case["model"] / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    write(HERE, tok, results)


def write(folder, tok, results):
    """Writes what the tests read: cases with latents, picture and scheduler configuration."""
    found = []
    for case, steps, _, config in results:
        ids = tok(case["prompt"], padding="max_length", max_length=77, truncation=True).input_ids
        found.append({k: v for k, v in case.items() if k not in ("class", "options")} | {"scheduler": config, "calls": len(steps), "ids": ids})
    np.concatenate([step for _, steps, _, _ in results for step in steps]).astype("<f4").tofile(folder / "latents.f32")
    np.concatenate([picture.reshape(-1) for _, _, picture, _ in results]).tofile(folder / "pictures.u8")
    head = {"diffusers": diffusers.__version__, "torch": torch.__version__, "side": SIDE, "count": COUNT}
    lines = ",\n".join(json.dumps(case) for case in found)
    (folder / "goldens.json").write_text(json.dumps(head)[:-1] + f', "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
