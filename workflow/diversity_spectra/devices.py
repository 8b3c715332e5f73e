"""Devices: what `auto` means, and how many threads a process takes."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from diversity_spectra.errors import UserError
from diversity_spectra.execution import log

# A folder of this user's own: in one for all, others could keep the locks, or plant links.
LEASES = Path(tempfile.gettempdir()) / f"diversity-spectra-devices-{os.getuid()}"
_held: list[FileLock] = []


def lease(devices: list[str], slots: int = 1, patience: float | None = None) -> str:
    """One of `devices` for this process alone among the user's own (or for `slots` processes), until it ends.

    A slot is a file lock in the local temporary folder; the kernel frees it when its process ends, however it ends.
    Waits for a free slot, `patience` seconds at most; raises `UserError` after that.
    """
    LEASES.mkdir(mode=0o700, exist_ok=True)
    found = LEASES.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{LEASES} is not a folder of yours; remove it, or name another temporary folder with TMPDIR")
    start, said = time.monotonic(), False
    while True:
        for slot in range(slots):
            for device in devices:
                lock = FileLock(LEASES / f"{device}.{slot}", timeout=0, is_singleton=False)
                try:
                    lock.acquire()
                except Timeout:
                    continue
                _held.append(lock)
                return device
        if patience is not None and time.monotonic() - start > patience:
            raise UserError(f"no device of {', '.join(devices)} became free in {patience:g} s")
        if not said and time.monotonic() - start > 5:
            said = True
            log.info(
                "waiting for a free device of %s: other processes of yours hold them (%s)", ", ".join(devices), LEASES
            )
        time.sleep(0.2)


def visible_devices() -> list[str]:
    """GPUs that this process may use, by the names in CUDA_VISIBLE_DEVICES or by number."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


def choose(name: str, threads: int) -> torch.device:
    """The device of a name (auto, cpu, cuda, cuda:N), a GPU for this process alone.

    `auto` takes a free GPU where there are some, else the CPU, and says what it took. Under SLURM the scheduler has
    chosen already. Raises `UserError` for a GPU that is not here.
    """
    torch.set_num_threads(threads)
    visible = visible_devices() if torch.cuda.is_available() else []
    if name == "auto" and not visible:
        log.info("no GPU found: working on the CPU with %d thread(s)", threads)
    if name == "cpu" or (name == "auto" and not visible):
        return torch.device("cpu")
    number = torch.device(name).index if name != "auto" else None
    if len(visible) <= (number or 0):
        raise UserError(f"device {name}: torch finds {len(visible)} GPUs here; use `device: auto` or `device: cpu`")
    if "SLURM_JOB_ID" not in os.environ:
        number = visible.index(lease(visible if number is None else [visible[number]]))
    device = torch.device("cuda", number or 0)
    log.info("working on %s", torch.cuda.get_device_name(device))
    return device


def release() -> None:
    """Let other processes have the device that this one no longer works on."""
    while _held:
        _held.pop().release()


def describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
