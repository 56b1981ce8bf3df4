"""Writes goldens.json: what diffusers' schedulers do with a denoiser that is a formula.

Run with the reference environment (torch, diffusers 0.39.0); the ordinary tests read the file.
Every case: a scheduler_config.json, a number of steps, and after each call the first latents.
"""

import json
import math
import pathlib

import diffusers
import torch

import noise

COUNT, SEED = 48, 20260719
# What Stable Diffusion 1.x and 2.x ship.
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def denoiser(x, t):
    """Stands for the network: some smooth function of the input and the time."""
    wave = torch.tensor(math.sin(float(t) / 160.0), dtype=torch.float32)
    return torch.tanh(x * 0.5) * 0.9 + wave * 0.1


def run(cls, options, steps, start=0):
    scheduler = getattr(diffusers, cls)(**options)
    scheduler.set_timesteps(steps)
    draws = iter(range(1, 10_000))

    def injected(shape, **_):
        return torch.from_numpy(noise.draw(SEED, next(draws), COUNT)).reshape(shape)

    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = injected
    first = torch.from_numpy(noise.draw(SEED, 0, COUNT)).reshape(1, 1, 1, COUNT)
    timesteps = scheduler.timesteps
    if start:
        timesteps = timesteps[start:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        clean = torch.linspace(-1, 1, COUNT).reshape(first.shape)
        latents = scheduler.add_noise(clean, first, timesteps[:1])
    else:
        latents = first * scheduler.init_noise_sigma
    outputs = []
    for t in timesteps:
        seen = scheduler.scale_model_input(latents, t)
        latents = scheduler.step(denoiser(seen, t), t, latents, return_dict=False)[0]
        outputs.append([float(v) for v in latents.reshape(-1)])
    config = json.loads(scheduler.to_json_string().replace("-Infinity", "null"))
    return {
        "name": f"{cls} {json.dumps(options, sort_keys=True)} steps={steps} start={start}",
        "config": config,
        "steps": steps,
        "start": start,
        "timesteps": [float(t) for t in timesteps],
        "latents": outputs,
    }


def cases():
    zero = dict(SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    for spacing in ("leading", "trailing", "linspace"):
        for prediction in ("epsilon", "v_prediction"):
            options = dict(SD, timestep_spacing=spacing, prediction_type=prediction)
            yield "DDIMScheduler", dict(options, clip_sample=False, set_alpha_to_one=False), 7
            yield "PNDMScheduler", dict(options, skip_prk_steps=True), 7
            yield "EulerDiscreteScheduler", options, 7
            yield "EulerAncestralDiscreteScheduler", options, 7
            yield "DPMSolverMultistepScheduler", options, 7
    yield "DDIMScheduler", dict(SD, prediction_type="sample"), 6
    yield "DDIMScheduler", dict(SD, clip_sample_range=2.0), 50
    yield "DDIMScheduler", dict(zero, clip_sample=False), 20
    yield "DDIMScheduler", dict(beta_schedule="squaredcos_cap_v2"), 9
    yield "DDIMScheduler", {}, 1
    yield "PNDMScheduler", {}, 12
    yield "PNDMScheduler", dict(SD, skip_prk_steps=True), 1
    yield "PNDMScheduler", dict(SD, skip_prk_steps=True, set_alpha_to_one=True), 20
    yield "EulerDiscreteScheduler", zero, 20
    yield "EulerDiscreteScheduler", dict(SD, use_karras_sigmas=True), 13
    yield "EulerDiscreteScheduler", dict(SD, use_exponential_sigmas=True), 13
    yield "EulerDiscreteScheduler", dict(SD, prediction_type="sample", final_sigmas_type="sigma_min"), 5
    yield "EulerDiscreteScheduler", dict(SD, timestep_spacing="trailing"), 1
    yield "EulerAncestralDiscreteScheduler", dict(SD, timestep_spacing="trailing"), 1
    yield "EulerAncestralDiscreteScheduler", zero, 12
    for options in (
        dict(use_karras_sigmas=True),
        dict(use_karras_sigmas=True, algorithm_type="sde-dpmsolver++"),
        dict(use_exponential_sigmas=True),
        dict(solver_type="heun"),
        dict(solver_order=1),
        dict(algorithm_type="sde-dpmsolver++", solver_type="heun"),
        dict(euler_at_final=True, final_sigmas_type="sigma_min"),
        dict(final_sigmas_type="sigma_min"),
        dict(lambda_min_clipped=-5.1, beta_schedule="squaredcos_cap_v2"),
    ):
        yield "DPMSolverMultistepScheduler", dict(SD, **options), 9
        yield "DPMSolverMultistepScheduler", dict(SD, **options), 25
    yield "DPMSolverMultistepScheduler", zero, 8
    yield "LCMScheduler", {}, 1
    yield "LCMScheduler", dict(SD), 4
    yield "LCMScheduler", dict(SD, prediction_type="v_prediction", clip_sample=True, set_alpha_to_one=False), 7


def main():
    found = [run(*case) for case in cases()]
    for cls in ("DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"):
        found.append(run(cls, dict(SD, timestep_spacing="leading"), 10, start=4))
    out = pathlib.Path(__file__).with_name("goldens.json")
    for case in found:
        # Every 6th number is enough to see a step go wrong; the noise is rebuilt from the seed.
        case["latents"] = [[float(f"{v:.8g}") for v in row[::6]] for row in case["latents"]]
    document = {"diffusers": diffusers.__version__, "seed": SEED, "count": COUNT, "every": 6, "cases": found}
    lines = ",\n".join(json.dumps(case) for case in document.pop("cases"))
    head = json.dumps(document)[:-1]
    out.write_text(f'{head}, "cases": [\n{lines}\n]}}\n')
    print(f"{len(found)} cases, {out.stat().st_size} bytes")


main()
