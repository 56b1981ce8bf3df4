"""What diffusers makes of the exported model: noise by seed, latents after every step, pictures.

The files have the form that `tests/goldens/engine` has: `goldens.json`, `latents.f32`, `pictures.u8`.
"""

import json
import sys

import diffusers
import numpy as np
import torch

from . import sample
from .paths import ROOT

FOLDER = ROOT / "tests" / "goldens" / "demo"
SHAPE = (1, 4, 16, 16)
BASE = {"prompt": "a purple heart", "negative": "", "seed": 7, "steps": 8, "guidance": 3.0}
CASES = (
    BASE,
    BASE | {"prompt": "a red apple", "guidance": 1.0},
    BASE | {"negative": "red, blurry", "seed": 8},
    BASE | {"sampler": "euler", "prompt": "a red apple"},
    BASE | {"sampler": "euler", "guidance": 1.0, "negative": "", "seed": 9},
)


@torch.no_grad()
def write() -> None:
    """Runs every case and replaces the folder's files."""
    sys.path.insert(0, str(ROOT / "tests" / "goldens" / "schedulers"))
    import noise  # the engine's own noise, in Python

    found, latents, pictures = [], [], []
    for case in CASES:
        pipe = sample.pipeline(case.get("sampler", "ddim"))
        start = torch.from_numpy(noise.draw(case["seed"], 0, int(np.prod(SHAPE)))).reshape(SHAPE)
        steps = []
        picture = pipe(
            case["prompt"], negative_prompt=case["negative"] or None, num_inference_steps=case["steps"],
            guidance_scale=case["guidance"], latents=start, height=128, width=128, output_type="np",
            callback_on_step_end=lambda _, __, ___, values: steps.append(values["latents"].numpy().copy()) or {},
        ).images[0]
        latents += steps
        pictures.append(np.round(picture * 255).astype(np.uint8))
        config = json.loads(pipe.scheduler.to_json_string().replace("-Infinity", "null"))
        found.append({key: value for key, value in case.items() if key != "sampler"} | {"scheduler": config, "calls": len(steps)})
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.concatenate([step.reshape(-1) for step in latents]).astype("<f4").tofile(FOLDER / "latents.f32")
    np.concatenate([picture.reshape(-1) for picture in pictures]).tofile(FOLDER / "pictures.u8")
    head = {"diffusers": diffusers.__version__, "torch": torch.__version__, "side": 128, "count": int(np.prod(SHAPE))}
    lines = ",\n".join(json.dumps(case) for case in found)
    (FOLDER / "goldens.json").write_text(json.dumps(head)[:-1] + f', "cases": [\n{lines}\n]}}\n')
    print(f"goldens: {len(found)} cases, {len(latents)} steps")
