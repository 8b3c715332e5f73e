"""How far an analysis is, and how many processors it may use."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import TextIO

QUIET = 5.0  # seconds: what is done by then says nothing


class Progress:
    """Prints the share done and the time left, on one line of a terminal, or every half minute elsewhere."""

    def __init__(self, what: str, stream: TextIO | None = None, clock=time.monotonic):
        self.what, self._clock = what, clock
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = self._last = clock()
        self._shown = False

    def __call__(self, share: float) -> None:
        now = self._clock()
        pause = 1 if self._terminal else 30
        if now - self._start < QUIET or now - self._last < pause or not 0 < share < 1:
            return
        self._last, self._shown = now, True
        line = f"{self.what}: {share:.0%}, {_duration((now - self._start) * (1 - share) / share)} left"
        print(
            f"\r\033[K{line}" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=self._stream,
            flush=True,
        )

    def close(self) -> None:
        if self._shown and self._terminal:
            print("\r\033[K", end="", file=self._stream, flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def processors(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that this process may use: its affinity, less where its control group has a quota (version 2 or 1)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((group / f"cpu/cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return allowed
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return allowed  # "max": no quota
    return max(1, min(allowed, math.ceil(share))) if share > 0 else allowed
