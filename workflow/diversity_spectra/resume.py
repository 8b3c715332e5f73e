"""Exact resume: the state of an unfinished training, kept outside what Snakemake declares and deletes.

Random streams are derived per step, so a state is the step, the weights and the optimiser, and a resumed training ends
with the same bits (on the CPU) as one that was never stopped.
"""

from __future__ import annotations

import signal
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from diversity_spectra.execution import log
from diversity_spectra.files import atomic_file, remove_remains
from diversity_spectra.imageset import new_images
from diversity_spectra.work import npy_shape

ROOT = Path("results/cache/.resume")


class Stopped(SystemExit):
    """Told to stop (a cluster's time limit, Ctrl-C); the state is saved."""


def _whole(path: Path) -> dict:
    """A saved state. Raises whatever damage leads to; torch itself does not compare the checksums that it writes."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} has another checksum")
    state = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(state, dict) or not {"key", "step"} <= state.keys():
        raise ValueError("no state of a training")
    return state


class Resume:
    """State of one training, named by the job's key; saved every `seconds` and when the process is told to stop."""

    def __init__(self, key: str, part: str, seconds: float):
        self.path = ROOT / key / f"{part}.pt"
        self.key = key
        self.seconds = seconds
        self.last = time.monotonic()
        self.stopping = False
        self.resumed = False

    def load(self) -> dict | None:
        """The saved state, or None. A damaged or foreign one is named in the log and left aside."""
        if not self.path.exists():
            return None
        try:
            state = _whole(self.path)
        except Exception as error:  # whatever a damaged file makes of zipfile, pickle and torch
            log.warning("saved state %s is damaged and ignored (%s)", self.path, str(error).split("\n")[0])
            return None
        if state["key"] != self.key:
            log.warning("saved state %s belongs to another job and is ignored", self.path)
            return None
        self.resumed = True
        log.info("resuming at step %d from %s", state["step"], self.path)
        return state

    def images(self, shape: tuple[int, int, int, int]) -> tuple[dict | None, np.memmap]:
        """The saved state, and beside it the memory map (N, H, W, C) uint8 of the images that it tells of, or a new one."""
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if (state := self.load()) and npy_shape(folder / "images.npy") == shape:
            return state, np.load(folder / "images.npy", mmap_mode="r+", allow_pickle=False)
        return None, new_images(folder, shape)

    def due(self) -> bool:
        return self.stopping or time.monotonic() - self.last > self.seconds

    def save(self, state: dict) -> None:
        """Write the state; leave the process if it was told to stop."""
        kept = "the state is saved and the next run goes on from it"
        try:
            with atomic_file(self.path) as temporary:
                torch.save({"key": self.key, **state}, temporary)
        except (OSError, RuntimeError) as error:
            kept = "the next run goes on from the state saved before, if there is one"
            # A training that cannot be saved is still worth finishing.
            log.warning("the state at step %d cannot be saved: %s", state["step"], str(error).split("\n")[0])
        self.last = time.monotonic()
        if self.stopping:
            log.error("stopped at step %d; %s", state["step"], kept)
            raise Stopped(143)

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        remove_remains(self.path)
        with suppress(OSError):  # it holds the states of other seeds of the job while they last
            self.path.parent.rmdir()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block SIGTERM and SIGINT ask for a state to be saved at the end of the step."""

        def stop(number: int, frame: object) -> None:
            self.stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
