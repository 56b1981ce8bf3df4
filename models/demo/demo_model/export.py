"""Writes the trained parts as a diffusers pipeline in ONNX, laid out and named as Optimum does it.

Differences that a reader of the folder meets: `timestep` has one value a row, so that rows at different steps share
a batch; weights are stored in fp16 and widened by a Cast when the graph is loaded, so all arithmetic is fp32.
"""

import functools
import json
import shutil

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from . import text, unet, vae
from .paths import HERE

MODEL = HERE / "emoji-128"
# What the engine offers when a request names nothing; the pipeline's own files have no place for it.
CARD = {"name": "emoji-128", "guidance_scale": 1.5, "steps": 20, "min_side": 64, "max_side": 256}
OPSET = 18
PICTURE = {0: "batch_size", 2: "height", 3: "width"}
LATENT = {0: "batch_size", 2: "height_latent", 3: "width_latent"}
WORDS = {0: "batch_size", 1: "sequence_length"}
AXES = {
    "input_ids": WORDS, "last_hidden_state": WORDS, "encoder_hidden_states": WORDS, "pooler_output": {0: "batch_size"},
    "timestep": {0: "batch_size"}, "sample": PICTURE, "out_sample": PICTURE, "latent_parameters": LATENT,
    "latent_sample": LATENT,
}
SMALLEST_HALF = 16  # elements; shorter tensors are not worth a Cast


@functools.cache
def rounded() -> tuple:
    """Tokenizer, text encoder, denoiser and autoencoder with every weight rounded to fp16, held in fp32."""
    pair, autoencoder = unet.load(), vae.load()
    for module in (pair, autoencoder):
        for value in module.parameters():
            value.data = value.data.half().float().contiguous()
    return text.load_tokenizer(), pair.text.eval(), pair.unet.eval(), autoencoder.eval()


def export() -> None:
    """Makes the folder anew."""
    tokenizer, encoder, denoiser, autoencoder = rounded()
    shutil.rmtree(MODEL, ignore_errors=True)
    (MODEL / "tokenizer").mkdir(parents=True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(text.folder() / name, MODEL / "tokenizer" / name)
    unet.scheduler().save_pretrained(MODEL / "scheduler")
    ids, words = torch.zeros(2, 77, dtype=torch.int64), torch.randn(2, 77, 128)
    latent, picture, time = torch.randn(2, 4, 16, 16), torch.randn(2, 3, 128, 128), torch.tensor([999.0, 500.0])
    _graph("text_encoder", encoder, lambda m, x: m(x)[:2], {"input_ids": ids}, ["last_hidden_state", "pooler_output"])
    _graph(
        "unet", denoiser, lambda m, x, t, w: m(x, t, w, return_dict=False)[0],
        {"sample": latent, "timestep": time, "encoder_hidden_states": words}, ["out_sample"],
    )
    _graph("vae_decoder", autoencoder, lambda m, z: m.decode(z, return_dict=False)[0], {"latent_sample": latent}, ["sample"])
    _graph(
        "vae_encoder", autoencoder, lambda m, x: m.encode(x, return_dict=False)[0].parameters,
        {"sample": picture}, ["latent_parameters"],
    )
    graphs = {part: ["diffusers", "OnnxRuntimeModel"] for part in ("text_encoder", "unet", "vae_decoder", "vae_encoder")}
    index = {
        "_class_name": "OnnxStableDiffusionPipeline", "_diffusers_version": "0.39.0", "requires_safety_checker": False,
        "feature_extractor": [None, None], "safety_checker": [None, None], "scheduler": ["diffusers", "DDIMScheduler"],
        "tokenizer": ["transformers", "CLIPTokenizer"], **graphs,
    }
    _write(MODEL / "model_index.json", index)
    _write(MODEL / "signet.json", CARD)
    total = sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file())
    print(f"export: {total / 1e6:.1f} MB")


class _Call(torch.nn.Module):
    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs):
        return self.call(self.module, *inputs)


def _graph(name: str, module, call, inputs: dict[str, torch.Tensor], outputs: list[str]) -> None:
    folder = MODEL / name
    folder.mkdir()
    path = folder / "model.onnx"
    axes = {key: AXES[key] for key in (*inputs, *outputs)}
    with torch.no_grad():
        torch.onnx.export(
            _Call(module, call).eval(), tuple(inputs.values()), str(path), input_names=list(inputs), output_names=outputs,
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )
    model = onnx.load(path)
    _halve(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    config = module.config
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    if "_use_default_values" in values:
        values["_use_default_values"] = sorted(values["_use_default_values"])  # diffusers keeps a set
    _write(folder / "config.json", values)


def _halve(graph: onnx.GraphProto) -> None:
    """Stores every initializer that fp16 holds exactly as fp16, with a Cast in front of its users."""
    casts = []
    for stored in graph.initializer:
        if stored.data_type != onnx.TensorProto.FLOAT:
            continue
        wide = numpy_helper.to_array(stored)
        half = wide.astype(np.float16)
        if wide.size < SMALLEST_HALF or not np.array_equal(half.astype(np.float32), wide):
            continue
        name = stored.name
        stored.CopyFrom(numpy_helper.from_array(half, f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _write(path, value) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")
