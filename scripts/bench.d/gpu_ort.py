"""Python's ONNX Runtime on the ONNX files that the engine runs, latents in torch's tensors on the GPU by I/O binding:
ms a request, as JSON.

python gpu_ort.py MODEL
"""

import sys

import numpy as np
import onnxruntime
import torch
from gpu_timing import measure

folder = sys.argv[1]
PROVIDER = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"})
NUMPY = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
TORCH = {np.float16: torch.float16, np.float32: torch.float32, np.int64: torch.int64, np.int32: torch.int32}


class Graph:
    def __init__(self, name: str) -> None:
        self.session = onnxruntime.InferenceSession(f"{folder}/{name}/model.onnx", providers=[PROVIDER])
        if self.session.get_providers()[0] != PROVIDER[0]:
            sys.exit("Python's ONNX Runtime does not run on the GPU")
        self.output = self.session.get_outputs()[0]

    def run(self, shape: tuple[int, ...], **inputs: torch.Tensor) -> torch.Tensor:
        binding = self.session.io_binding()
        kept = []
        for port in self.session.get_inputs():
            kind = NUMPY[port.type]
            value = inputs[port.name].to(device="cuda", dtype=TORCH[kind]).contiguous()
            kept.append(value)
            binding.bind_input(port.name, "cuda", 0, kind, tuple(value.shape), value.data_ptr())
        kind = NUMPY[self.output.type]
        out = torch.empty(shape, device="cuda", dtype=TORCH[kind])
        binding.bind_output(self.output.name, "cuda", 0, kind, shape, out.data_ptr())
        torch.cuda.synchronize()
        self.session.run_with_iobinding(binding)
        return out


unet, decoder, encoder = Graph("unet"), Graph("vae_decoder"), Graph("text_encoder")
width = next(port for port in unet.session.get_inputs() if port.name == "encoder_hidden_states").shape[2]
per_row = len(next(port for port in unet.session.get_inputs() if port.name == "timestep").shape) == 1


@torch.inference_mode()
def make(n: int, steps: int) -> None:
    ids = torch.ones(1, 77)
    text = torch.cat([encoder.run((1, 77, width), input_ids=ids) for _ in range(n)])
    latents = torch.randn(n, 4, 64, 64, device="cuda")
    for _ in range(steps):
        time = torch.full((n,) if per_row else (), 500.0)
        output = unet.run((n, 4, 64, 64), sample=latents, timestep=time, encoder_hidden_states=text)
        latents = latents - 0.1 * output
    for row in latents.split(1):
        decoder.run((1, 3, 512, 512), **{decoder.session.get_inputs()[0].name: row}).cpu()


measure(make, onnxruntime.__version__)
