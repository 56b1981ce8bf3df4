"""Writes tiny random pipelines of every family beside this file, exported by Optimum, and what diffusers makes of them.

Run with the reference environment (torch, diffusers 0.39.0, transformers, onnx) and Optimum 2.1.0 with optimum-onnx
0.1.0 on PYTHONPATH. Every family with every scheduler, but models distilled with LCM, whose
pipeline in diffusers takes no other; the ordinary tests read the results.
"""

import pathlib
import shutil
import sys
import tempfile

import diffusers
import torch
from diffusers import AutoencoderKL, LatentConsistencyModelPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from optimum.exporters.onnx import main_export
from transformers import CLIPTextModel, CLIPTextModelWithProjection

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "engine"))
import make as tiny  # noqa: E402

HERE = pathlib.Path(__file__).parent
PLAIN = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
# What the published models of each family are: prediction, spacing of timesteps, guidance.
FAMILIES = {
    "sd1": dict(prediction="epsilon", spacing="leading", guidance=7.5),
    "sd2": dict(prediction="v_prediction", spacing="leading", guidance=7.5),
    "sd-turbo": dict(prediction="epsilon", spacing="trailing", guidance=0.0),
    "lcm": dict(prediction="epsilon", spacing="leading", guidance=8.5),
    "sdxl": dict(prediction="epsilon", spacing="leading", guidance=5.0),
    "sdxl-turbo": dict(prediction="epsilon", spacing="trailing", guidance=0.0),
}
SCHEDULERS = [
    ("DDIMScheduler", dict(clip_sample=False, set_alpha_to_one=False)),
    ("PNDMScheduler", dict(skip_prk_steps=True)),
    ("EulerDiscreteScheduler", {}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", dict(use_karras_sigmas=True)),
    ("LCMScheduler", dict(clip_sample=False)),
]
# The scheduler that each family is published with.
OWN = {"sd1": "PNDMScheduler", "sd2": "DDIMScheduler", "lcm": "LCMScheduler", "sdxl": "EulerDiscreteScheduler",
       "sd-turbo": "EulerDiscreteScheduler", "sdxl-turbo": "EulerAncestralDiscreteScheduler"}


def scheduler(family, name, options):
    about = FAMILIES[family]
    common = dict(SD, prediction_type=about["prediction"], timestep_spacing=about["spacing"])
    return getattr(diffusers, name)(**common, **options)


def autoencoder():
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 8), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=tiny.CHANNELS, norm_num_groups=2, sample_size=tiny.SIDE, scaling_factor=0.5).eval()


def pipeline(family, folder, seed):
    torch.manual_seed(seed)
    name, options = next(each for each in SCHEDULERS if each[0] == OWN[family])
    own = scheduler(family, name, options)
    if family.startswith("sdxl"):
        first, words = tiny.tokenizer(folder / "tokenizer", "<|endoftext|>")
        second, _ = tiny.tokenizer(folder / "tokenizer_2")
        unet = tiny.denoiser((8, 16), 24, addition_embed_type="text_time", addition_time_embed_dim=8,
                             projection_class_embeddings_input_dim=6 * 8 + 16, use_linear_projection=True)
        return StableDiffusionXLPipeline(
            vae=autoencoder(), text_encoder=CLIPTextModel(tiny.text_config(words, 8)).eval(),
            text_encoder_2=CLIPTextModelWithProjection(tiny.text_config(words, 16)).eval(), tokenizer=first, tokenizer_2=second,
            unet=unet, scheduler=own, force_zeros_for_empty_prompt=True, add_watermarker=False)
    tok, words = tiny.tokenizer(folder / "tokenizer", "!" if family in ("sd2", "sd-turbo") else "<|endoftext|>")
    more = {"lcm": dict(time_cond_proj_dim=10), "sd1": {}}.get(family, dict(use_linear_projection=True))
    parts = dict(
        vae=autoencoder(), text_encoder=CLIPTextModel(tiny.text_config(words, 16)).eval(), tokenizer=tok,
        unet=tiny.denoiser((8, 16), 16, **more), scheduler=own)
    kind = LatentConsistencyModelPipeline if family == "lcm" else StableDiffusionPipeline
    return kind(**parts, **PLAIN)


def export(pipe, family):
    folder = HERE / family
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as saved:
        pipe.save_pretrained(saved)
        main_export(saved, output=folder, task="text-to-image", do_validation=False)
    # Everything but what nobody reads.
    for name in ("feature_extractor", "safety_checker"):
        shutil.rmtree(folder / name, ignore_errors=True)


def main():
    results = []
    for index, (family, about) in enumerate(FAMILIES.items()):
        with tempfile.TemporaryDirectory() as folder:
            pipe = pipeline(family, pathlib.Path(folder), 40 + index)
            export(pipe, family)
            for name, options in SCHEDULERS:
                if family == "lcm" and name != OWN[family]:
                    continue
                pipe.scheduler = scheduler(family, name, options)
                for steps in ((1, 4) if name == OWN[family] and family != "sd1" else (4,)):
                    case = dict(model=family, prompt="a red apple", negative="", seed=tiny.SEED + index, steps=steps,
                                guidance=about["guidance"])
                    with torch.no_grad():
                        results.append((case, *tiny.follow(pipe, case)))
            tok = pipe.tokenizer
    tiny.write(HERE, tok, results)


if __name__ == "__main__":
    main()
