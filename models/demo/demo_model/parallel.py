"""Two single-threaded workers that average their gradients once a step.

Threads inside one process wait for each other at every operator; on a machine that does other work too, that costs
most of the speed. Two processes meet once a step.
"""

import os
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from .paths import work_folder

WORKERS = 2


def launch(work, *args) -> None:
    """Runs `work(rank, *args)` in every worker; a worker's error ends all."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29517")
    mp.spawn(_enter, args=(work, args), nprocs=WORKERS)


def _enter(rank: int, work, args) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORKERS)
    torch.manual_seed(1000 + rank)
    try:
        work(rank, *args)
    finally:
        dist.destroy_process_group()


def average_gradients(parameters) -> None:
    """Replaces each gradient by the mean over the workers."""
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    flat /= WORKERS
    at = 0
    for grad in grads:
        grad.copy_(flat[at : at + grad.numel()].view_as(grad))
        at += grad.numel()


def average(parameters) -> None:
    """Replaces each parameter by the mean over the workers."""
    with torch.no_grad():
        flat = torch.cat([p.reshape(-1) for p in parameters])
        dist.all_reduce(flat)
        flat /= WORKERS
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
            parameter.copy_(part.view_as(parameter))


def tell(phase: str, step: int, budget: "Budget", what: str, value: float) -> None:
    """Prints a point of a phase's curve, and keeps it for `curves`."""
    print(f"{phase} step {step} {budget.spent:.0f}s {what} {value:.4f}", flush=True)
    with (work_folder() / "curves.tsv").open("a") as file:
        file.write(f"{phase}\t{budget.spent:.1f}\t{what}\t{value:.4f}\n")


class Budget:
    """Training by CPU time, which other work on the machine does not use up: how much of a worker's budget is spent,
    over all resumed runs; the same in every worker."""

    def __init__(self, minutes: float, spent: float = 0.0):
        self.seconds, self.spent, self.last = minutes * 60, spent, time.process_time()

    def progress(self) -> float:
        """Spent share, 0 to 1, as worker 0 sees it."""
        now = time.process_time()
        self.spent += now - self.last
        self.last = now
        shared = torch.tensor([self.spent], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return min(1.0, shared.item() / self.seconds)


class Ema:
    """Exponential moving average of a module's parameters, warmed up so that it forgets the first steps."""

    def __init__(self, module, decay: float):
        self.decay, self.steps = decay, 0
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.values[name].lerp_(value.detach(), 1 - decay)
            else:
                self.values[name].copy_(value)


class Mean:
    """A moving mean that starts at the first value, after a stop too."""

    def __init__(self, rate: float):
        self.rate, self.value = rate, None

    def add(self, value: float) -> None:
        self.value = value if self.value is None else self.value + self.rate * (value - self.value)


class Clock:
    """Tells when a checkpoint is due: every two minutes."""

    def __init__(self):
        self.last = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self.last < 120:
            return False
        self.last = time.monotonic()
        return True


def falling(progress: float, start: float = 0.6) -> float:
    """The rate's share: whole until `start`, then straight down to nothing, so that a budget can be changed midway."""
    return min(1.0, max(0.0, (1 - progress) / (1 - start)))


def save(path, **state) -> None:
    """Writes a checkpoint so that a stop in the middle leaves the old one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.rename(path)
