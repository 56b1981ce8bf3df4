"""A pipeline of a known model's size with random weights, exported to ONNX with a timestep for every row.

python random_model.py sd15|sd-turbo FOLDER [fp16]

Architecture and sizes are those of the published models; no weights are needed to measure time. Needs torch, diffusers,
and transformers, and onnx where a graph is larger than two gigabytes; fp16 is exported on a GPU.
"""

import importlib.util
import json
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

kind, folder = sys.argv[1], pathlib.Path(sys.argv[2])
half = "fp16" in sys.argv[3:]
root = pathlib.Path(__file__).resolve().parents[2]
turbo = kind == "sd-turbo"
width = 1024 if turbo else 768
device = "cuda" if half else "cpu"
dtype = torch.float16 if half else torch.float32
torch.manual_seed(0)

text = CLIPTextModel(CLIPTextConfig(
    hidden_size=width, intermediate_size=4 * width, num_attention_heads=width // 64, num_hidden_layers=23 if turbo else 12,
    projection_dim=512, max_position_embeddings=77, vocab_size=49408, hidden_act="gelu" if turbo else "quick_gelu"))
unet = UNet2DConditionModel(
    sample_size=64, cross_attention_dim=width, attention_head_dim=[5, 10, 20, 20] if turbo else 8,
    use_linear_projection=turbo, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2)
vae = AutoencoderKL(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
scheduler = (
    EulerDiscreteScheduler(**betas, timestep_spacing="trailing") if turbo
    else DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1))


class Text(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = text

    def forward(self, input_ids):
        return self.model(input_ids).last_hidden_state


class Unet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = unet

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = vae

    def forward(self, latent_sample):
        return self.model.decode(latent_sample, return_dict=False)[0]


def export(name, module, inputs, names, output, dynamic):
    module = module.eval().to(device=device, dtype=dtype)
    target = folder / name
    target.mkdir(parents=True)
    parts = folder / f"{name}-parts"
    parts.mkdir()
    with torch.no_grad():
        torch.onnx.export(
            module, inputs, str(parts / "model.onnx"), input_names=names, output_names=[output],
            dynamic_axes=dynamic, opset_version=17, dynamo=False)
    if importlib.util.find_spec("onnx") is None:
        # Under two gigabytes the exporter writes one file; above, one a weight, which serves as well.
        shutil.copytree(parts, target, dirs_exist_ok=True)
        return shutil.rmtree(parts)
    # One file of weights beside the graph.
    import onnx

    model = onnx.load(str(parts / "model.onnx"))
    onnx.save(model, str(target / "model.onnx"), save_as_external_data=True, location="model.onnx_data", size_threshold=1024)
    shutil.rmtree(parts)


shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
floats = lambda *shape: torch.randn(*shape, device=device, dtype=dtype)
export("text_encoder", Text(), (torch.zeros(1, 77, dtype=torch.long, device=device),), ["input_ids"], "last_hidden_state",
       {"input_ids": {0: "batch"}, "last_hidden_state": {0: "batch"}})
export("unet", Unet(), (floats(2, 4, 64, 64), floats(2), floats(2, 77, width)),
       ["sample", "timestep", "encoder_hidden_states"], "out_sample",
       {"sample": {0: "batch", 2: "height", 3: "width"}, "timestep": {0: "batch"}, "encoder_hidden_states": {0: "batch"},
        "out_sample": {0: "batch", 2: "height", 3: "width"}})
export("vae_decoder", Decoder(), (floats(1, 4, 64, 64),), ["latent_sample"], "sample",
       {"latent_sample": {0: "batch", 2: "height", 3: "width"}, "sample": {0: "batch", 2: "height", 3: "width"}})
for name, module in (("unet", unet), ("vae_decoder", vae), ("text_encoder", text)):
    source = module.config.to_dict() if name == "text_encoder" else dict(module.config)
    (folder / name / "config.json").write_text(json.dumps(source, default=str))
scheduler.save_pretrained(folder / "scheduler")
shutil.copytree(root / "models/demo/emoji-128/tokenizer", folder / "tokenizer")
(folder / "signet.json").write_text(json.dumps(
    {"name": kind, "guidance_scale": 1.0 if turbo else 7.5, "steps": 1 if turbo else 20, "min_side": 256, "max_side": 1024}))
# Last: a folder without it was not finished.
(folder / "model_index.json").write_text(json.dumps({
    "_class_name": "StableDiffusionPipeline", "feature_extractor": [None, None], "safety_checker": [None, None],
    "scheduler": ["diffusers", type(scheduler).__name__], "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
    "vae_decoder": ["diffusers", "AutoencoderKL"], "requires_safety_checker": False}))
