"""Devices: what `auto` means, which GPU a process works on, and what happens where its memory does not suffice."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock, Timeout

from diversity_spectra.errors import UserError
from diversity_spectra.execution import log
from diversity_spectra.planning.machine import gpus

# A folder of this user's own: in one for all, others could keep the locks, or plant links.
LEASES = Path(tempfile.gettempdir()) / f"diversity-spectra-devices-{os.getuid()}"
HELD_ON_CPU = 2 * 2**30
_held: list[FileLock] = []
_sharing = 1  # jobs that share the GPU of this process

T = TypeVar("T")


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


def choose(name: str, threads: int, jobs_per_gpu: int = 1) -> torch.device:
    """The device of a name (auto, cpu, cuda, cuda:N); a GPU is the current one from then on, and leased.

    `auto` takes a free GPU where there are some, else the CPU, and says what it took. A lease bears the GPU's UUID: its
    number depends on what a process may see. Raises `UserError` for a GPU that is not here, and for one that was named,
    given by a scheduler or found by the driver but that this torch cannot use.
    """
    global _sharing
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"device {name!r} is not allowed; allowed: auto, cpu, cuda, cuda:N")
    torch.set_num_threads(threads)
    _sharing = jobs_per_gpu
    if name == "cpu":
        return torch.device("cpu")
    leased = _one_instance(jobs_per_gpu)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    promised = _promised() if found == 0 else ""
    if name == "auto" and not found and not promised:
        log.info("no GPU found: working on the CPU with %d thread(s)", threads)
        return torch.device("cpu")
    number = torch.device(name).index if name != "auto" else None
    if found == 0:
        there = f"there is {promised}, but torch cannot use it" if promised else "torch finds no GPU here"
        raise UserError(f"device {name}: {there}: {_why_none()}; {MEND}")
    if found <= (number or 0):
        raise UserError(f"device {name}: torch finds {found} GPUs here; use `device: auto` or `device: cpu`")
    wrong = {each: _why_not(each) for each in (range(found) if number is None else [number])}
    if not (usable := {_uuid(each): each for each, why in wrong.items() if not why}):
        raise UserError(f"device {name}: {'; '.join(wrong.values())}; {MEND}")
    index = 0 if leased else usable[lease(list(usable), jobs_per_gpu)]
    device = torch.device("cuda", index)
    # Whatever names no device works on the current one: seeds, streams, statistics of memory, compiled kernels.
    torch.cuda.set_device(device)
    log.info("working on %s, cuda:%d, %s", torch.cuda.get_device_name(device), index, _uuid(index))
    return device


def release() -> None:
    """Let other processes have the device that this one no longer works on."""
    while _held:
        _held.pop().release()


def describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def seed(number: int, device: torch.device) -> None:
    """As `torch.manual_seed`, for the CPU and this device alone: that costs as much as a step of a small network.

    `torch.cuda.manual_seed` would seed the current device, whichever that is.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(number)


def computing(precision: str, device: torch.device) -> torch.autocast:
    """A context in which networks compute in float32, tf32, or (autocast) bfloat16 or float16.

    tf32: products of float32 matrices and convolutions on a GPU with 10 bits of mantissa. torch's own default allows it in
    convolutions, so that its float32 is none; here that holds for a backward pass after the context too.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    half = precision in ("bfloat16", "float16")
    return torch.autocast(device.type, getattr(torch, precision) if half else None, enabled=half)


def in_memory(work: Callable[..., T], batches: Iterable[tuple[torch.Tensor | None, ...]]) -> list[T]:
    """What `work` makes of batches, tensors (B, ...) of equal length each, cut in halves where memory lacks for them.

    Raises `UserError` where one element at a time is still too many.
    """
    done, most = [], None
    for batch in batches:
        start, end = 0, len(batch[0])
        while start < end:
            part = slice(start, min(end, start + (most or end)))
            try:
                done.append(work(*(each if each is None else each[part] for each in batch)))
                start = part.stop
                continue
            except torch.OutOfMemoryError:
                most = (part.stop - part.start) // 2
            if most == 0:
                raise UserError("out of memory on the device even with one image at a time")
            # Only after the handler, whose traceback holds the tensors, can they be freed.
            torch.cuda.empty_cache()
            log.warning("out of memory: going on with %d images at a time", most)
    return done


def room(device: torch.device) -> int:
    """Bytes of images that are held on a device: half of a GPU's free memory, which jobs that share it divide."""
    if device.type == "cpu":
        return HELD_ON_CPU
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes next
    return (torch.cuda.mem_get_info(device)[0] + kept) // (2 * _sharing)


# ---------------------------------------------------------------- what is here

MEND = "mend that, or set `execution: {device: cpu}`"


def _promised() -> str:
    """What says that there is a GPU for this process, in words; empty where nothing does."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # What stands after a number that is none is not seen, so -1 hides all.
        first = visible.split(",")[0].strip()
        return "" if first in ("", "-1", "NoDevFiles", "none") else f"CUDA_VISIBLE_DEVICES={visible}"
    if os.environ.get("SLURM_JOB_GPUS"):
        return f"the GPU that SLURM gave (SLURM_JOB_GPUS={os.environ['SLURM_JOB_GPUS']})"
    return ", ".join(gpus())


def _one_instance(slots: int) -> bool:
    """Whether there are several MIG instances, of which one is leased: a process sees one alone, the first that is named.

    So that has to happen before torch looks for what it sees.
    """
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    several = len(names) > 1 and all(name.startswith("MIG-") for name in names)
    if several:
        os.environ["CUDA_VISIBLE_DEVICES"] = lease(names, slots)
    return several


def _why_none() -> str:
    """Why torch finds no GPU at all."""
    if torch.version.cuda is None:
        return "it is built for the CPU alone"
    try:
        torch.cuda.init()
    except Exception as error:  # of the driver, in its own words
        return str(error).split("\n")[0].rstrip(".")
    return "the driver gives it none"


def _why_not(index: int) -> str:
    """Why this torch cannot compute on a GPU; empty where it can."""
    capability, built = torch.cuda.get_device_capability(index), torch.cuda.get_arch_list()
    if runs_on(capability, built):
        return ""
    name, number = torch.cuda.get_device_name(index), "{}.{}".format(*capability)
    return f"{name} has compute capability {number}, and torch {torch.__version__} is built for {' '.join(built)}"


def runs_on(capability: tuple[int, int], built: Iterable[str]) -> bool:
    """Whether code built for these (`sm_86`, `compute_120`) runs on a GPU of this compute capability.

    Binary code (sm) runs within its major version from its own minor version on, intermediate code (compute) on every
    later one (CUDA C++ Programming Guide, Compute Capabilities). What is specific to one architecture (`sm_90a`) is left
    out.
    """
    for kind, _, number in (arch.partition("_") for arch in built):
        if number.isdigit():
            of = divmod(int(number), 10)
            if (kind == "sm" and of[0] == capability[0] and of <= capability) or (
                kind == "compute" and of <= capability
            ):
                return True
    return False


def _uuid(index: int) -> str:
    return str(torch.cuda.get_device_properties(index).uuid)
