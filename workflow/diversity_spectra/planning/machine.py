"""What this machine has to work with, without importing torch."""

from __future__ import annotations

import shutil
import subprocess
import sys


def cpu(threads: int) -> str:
    """The CPU as a device. Its number of cores says how many jobs run at a time, not how fast one is."""
    return f"cpu ({threads} thread{'s' if threads > 1 else ''})"


def gpus() -> list[str]:
    """Names of the GPUs, as torch gives them; empty where the driver's tool is missing or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        asked = [tool, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def gpu_in_use() -> str | None:
    """Name of the GPU that this process has worked on, or None."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return torch.cuda.get_device_name()
