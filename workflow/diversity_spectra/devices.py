"""Devices: what `auto` means, and how many threads a process takes."""

from __future__ import annotations

import torch

from diversity_spectra.errors import UserError
from diversity_spectra.execution import log


def choose(name: str, threads: int) -> torch.device:
    """The device of a name (auto, cpu, cuda, cuda:N). `auto` takes a GPU where there is one, and says what it took."""
    torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu":
            log.info("no GPU found: working on the CPU with %d thread(s)", threads)
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name}: torch finds no GPU here; use `device: auto` or `device: cpu`")
        log.info("working on %s", torch.cuda.get_device_name(device))
    return device


def describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
