"""How one job is run, as a file says it. Light: each job on a cluster parses the rules again, and needs no more than this."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = "results/cache/.jobs"


@dataclass(frozen=True)
class Order:
    """How a job is run. options: of its command, which change no result. blocks: of seeds that share a process."""

    file: str
    options: str
    threads: int
    gpu: int
    blocks: tuple[tuple[int, ...], ...] = ()

    def command(self, seed: str | None) -> str:
        """Arguments of the command, for the block of seeds that ends with what is asked for."""
        block = next((block for block in self.blocks if seed and int(seed) in block), ())
        seeds = ["--seeds", *map(str, block)] if block else []
        return " ".join(filter(None, [shlex.join(["--job", self.file, *seeds]), self.options]))


@cache
def written(kind: str, item: str) -> Order:
    """The order that the workflow which started this process has written."""
    order = json.loads(Path(f"{FOLDER}/{kind}/{item}.json").read_text())["order"]
    return Order(**{**order, "blocks": tuple(map(tuple, order["blocks"]))})
