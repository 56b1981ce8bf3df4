"""Seconds a picture of Optimum's pipeline on the ONNX files that the engine runs, as JSON.

python engine.py MODEL STEPS PICTURES
"""

import json
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import torch
from optimum.onnxruntime import ORTStableDiffusionPipeline

folder, steps, pictures = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
pipeline = ORTStableDiffusionPipeline.from_pretrained(folder, provider="CPUExecutionProvider")
pipeline.set_progress_bar_config(disable=True)


def make(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pipeline("a red apple", num_inference_steps=steps, guidance_scale=GUIDANCE, generator=generator, width=SIDE, height=SIDE)


SIDE = int(os.environ["SIDE"]) if "SIDE" in os.environ else json.load(open(f"{folder}/unet/config.json"))["sample_size"] * pipeline.vae_scale_factor
GUIDANCE = json.load(open(f"{folder}/signet.json"))["guidance_scale"]
make(0)
begun = time.perf_counter()
for seed in range(pictures):
    make(seed)
print(json.dumps({"seconds_a_picture": (time.perf_counter() - begun) / pictures}))
