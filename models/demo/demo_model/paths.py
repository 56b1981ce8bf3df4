"""Where things lie: what is made lies in the work folder outside the checkout, what is kept in models/demo."""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent


def work_folder() -> Path:
    """The folder for data, checkpoints and logs; `SIGNET_CACHE` moves it."""
    cache = os.environ.get("SIGNET_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "signet"
    folder = Path(cache) / "models-demo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
