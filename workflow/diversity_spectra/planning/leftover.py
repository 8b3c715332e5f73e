"""Jobs that a workflow left in the queue of a SLURM cluster when it was killed.

They go on without it, and Snakemake, which does not know them, would start the same work beside them.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable

PATIENCE = 120  # seconds; SLURM ends a cancelled job by force after KillWait, 30 s unless the site says otherwise


def cancel(names: Iterable[str]) -> list[str]:
    """Cancel this user's jobs that were submitted from this folder for one of `names`, and wait until they have ended.

    names: items, or experiments, as they stand in the wildcards of the rules.
    A training among them saves its state, from which the job that takes its place goes on. Returns their numbers.
    """
    names = {name.replace("/", "_") for name in names}
    found = leftover(_queue(), os.getcwd(), names)
    if found:
        subprocess.run(["scancel", *found], check=False, timeout=60)
    end = time.monotonic() + PATIENCE
    while leftover(_queue(), os.getcwd(), names) and time.monotonic() < end:
        time.sleep(1)
    return found


def leftover(queue: str, folder: str, names: set[str]) -> list[str]:
    """Numbers of the jobs in `queue`, lines of `number|comment|folder`, that belong to `folder` and `names`.

    Snakemake's plugin writes the comment: `rule_<rule>_wildcards_<value>`, with `_` for `/` in the value.
    """
    jobs = [line.split("|", 2) for line in queue.splitlines() if line.count("|") >= 2]
    return [job for job, comment, place in jobs if place == folder and comment.partition("_wildcards_")[2] in names]


def _queue() -> str:
    """This user's jobs that wait, run or are ending; nothing if the cluster does not answer."""
    try:
        command = ["squeue", "--me", "--noheader", "--format=%i|%k|%Z"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
