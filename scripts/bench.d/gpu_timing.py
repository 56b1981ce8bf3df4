"""How long requests of one and four pictures take on a GPU, for the peers of the engine."""

import json
import time
from collections.abc import Callable

import torch


def measure(make: Callable[[int, int], None], version: str) -> None:
    """Prints ms a request for pictures a request and steps, as JSON; `make` makes so many in so many steps."""
    rows = []
    for n, steps in ((1, 1), (4, 1), (4, 4)):
        for _ in range(5):
            make(n, steps)
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(25):
            make(n, steps)
        torch.cuda.synchronize()
        ms = (time.perf_counter() - begun) / 25 * 1000
        rows.append({"n": n, "steps": steps, "ms": ms, "version": version})
    print(json.dumps(rows))
