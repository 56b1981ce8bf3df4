"""Writes what diffusers makes of model folders whose small files leave something out or say it in two places.

Run with the reference environment (torch, diffusers 0.39.0, transformers, onnx); the ordinary tests read the results. A
case names one of the tiny models of `../engine`, its `scheduler_config.json`, merge patches (RFC 7396) for
`model_index.json` and the autoencoder's `config.json`, and the class that the configuration puts in place of the
folder's. The folder is loaded with diffusers' `from_pretrained`, so that its own defaults count.
"""

import json
import pathlib
import sys
import tempfile

import diffusers
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "engine"))
import make as tiny  # noqa: E402

HERE = pathlib.Path(__file__).parent
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
VELOCITY = dict(BETAS, prediction_type="v_prediction")
# What a published autoencoder for SDXL has (Playground 2.5), so of that size.
MEAN, STD = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]
PIPES = {
    "model": ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
    "model-xl": ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
}


def merged(value, patch):
    """RFC 7396: null takes a field out."""
    if not isinstance(patch, dict):
        return patch
    value = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            value.pop(key, None)
        else:
            value[key] = merged(value.get(key), change)
    return value


def rewrite(file, patch):
    file.write_text(json.dumps(merged(json.loads(file.read_text()), patch)))


def pipeline(parts, case):
    """The folder as it is described, loaded from the disk."""
    text, image, inpaint = PIPES[case["model"]]
    name = inpaint if "mask" in case else image if "strength" in case else text
    plain = dict(add_watermarker=False) if case["model"] == "model-xl" else dict(safety_checker=None)
    own = dict(feature_extractor=None, requires_safety_checker=False) if case["model"] == "model" else {}
    with tempfile.TemporaryDirectory() as at:
        folder = pathlib.Path(at)
        whole = getattr(diffusers, text)(**parts, **plain, **own, scheduler=diffusers.DDIMScheduler())
        whole.save_pretrained(folder)
        file = folder / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps(case["scheduler"]))
        index = {"scheduler": ["diffusers", case["scheduler"]["_class_name"]]}
        rewrite(folder / "model_index.json", index | case.get("index", {}))
        if "vae" in case:
            rewrite(folder / "vae" / "config.json", case["vae"])
        given = {}
        if "override" in case:
            given["scheduler"] = getattr(diffusers, case["override"]).from_config(case["scheduler"])
        return getattr(diffusers, name).from_pretrained(folder, **plain, **given)


def cases():
    base = dict(model="model", prompt="a red apple", negative="", seed=tiny.SEED, steps=5, guidance=7.5)
    ddim = dict(VELOCITY, _class_name="DDIMScheduler", set_alpha_to_one=False)
    pndm = dict(VELOCITY, _class_name="PNDMScheduler")
    unipc = dict(VELOCITY, _class_name="UniPCMultistepScheduler", solver_order=2, solver_type="bh2", predict_x0=True,
                 timestep_spacing="leading", steps_offset=1, disable_corrector=[], lower_order_final=True)
    # Old files of Stable Diffusion 1 and 2: `clip_sample` and `steps_offset` left out, or wrong.
    yield base | dict(scheduler=ddim)
    yield base | dict(scheduler=dict(ddim, clip_sample=True, steps_offset=0))
    yield base | dict(scheduler=ddim, strength=0.6)
    yield base | dict(scheduler=dict(pndm, skip_prk_steps=True))
    yield base | dict(scheduler=pndm)
    yield base | dict(scheduler=dict(VELOCITY, _class_name="EulerDiscreteScheduler", timestep_spacing="leading"))
    # The pipeline that paints a part anew takes the warm-up out of PNDM.
    yield base | dict(scheduler=pndm, strength=1.0, mask="right half")
    # The index names another class than the file.
    yield base | dict(scheduler=ddim, index={"scheduler": ["diffusers", "EulerDiscreteScheduler"]})
    yield base | dict(scheduler=dict(ddim, _class_name="UniPCMultistepScheduler"),
                      index={"scheduler": ["diffusers", "DPMSolverMultistepScheduler"]})
    # Another class by configuration, of a file whose own class is not supported.
    for name in ("DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "DDIMScheduler"):
        yield base | dict(scheduler=unipc, override=name)
    yield base | dict(scheduler=dict(VELOCITY, _class_name="DEISMultistepScheduler", algorithm_type="deis",
                                     solver_type="logrho", steps_offset=1, final_sigmas_type="sigma_min"),
                      override="DPMSolverMultistepScheduler")
    xl = base | dict(model="model-xl", guidance=5.0, steps=3)
    euler = dict(BETAS, _class_name="EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1)
    # Pipelines of SDXL leave the scheduler as it is.
    yield xl | dict(scheduler=dict(BETAS, _class_name="DDIMScheduler"))
    # An empty negative prompt is zeros unless the index says otherwise.
    yield xl | dict(scheduler=euler, index={"force_zeros_for_empty_prompt": None})
    yield xl | dict(scheduler=euler, index={"force_zeros_for_empty_prompt": False})
    # An autoencoder whose latents are scaled channel by channel.
    scaled = dict(latents_mean=MEAN, latents_std=STD)
    yield xl | dict(scheduler=euler, vae=scaled)
    yield xl | dict(scheduler=euler, vae=scaled, strength=0.7)
    yield xl | dict(scheduler=euler, vae=dict(latents_mean=MEAN))


@torch.no_grad()
def main():
    with tempfile.TemporaryDirectory() as exports:
        # The same seeds give the same weights as the exports beside this folder have.
        tiny.HERE = pathlib.Path(exports)
        families = {"model": tiny.stable_diffusion(), "model-xl": tiny.stable_diffusion_xl()}
    found = []
    for case in cases():
        steps, picture, _ = tiny.follow(pipeline(families[case["model"]], case), case)
        found.append((case | {"class": "", "options": {}}, steps, picture, case["scheduler"]))
    tiny.write(HERE, families["model"]["tokenizer"], found)


if __name__ == "__main__":
    main()
