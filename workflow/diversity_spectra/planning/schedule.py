"""Wall time of a plan on several devices, by list scheduling over its graph of steps."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True)
class Schedule:
    """Seconds until everything is done, and seconds that the slots of each pool are at work, all of them together."""

    wall: float
    busy: dict[str, float]


def schedule(
    needs: Sequence[Sequence[int]], seconds: Sequence[float], pools: Sequence[str], slots: dict[str, int]
) -> Schedule:
    """Whenever a slot is free, the first step in order whose needs are done takes it (Graham 1969).

    This is within a factor of 2 of the best possible order. Step i works `seconds[i]` in one of the
    `slots[pools[i]]` slots of its pool, after the steps `needs[i]`.
    """
    followers: list[list[int]] = [[] for _ in needs]
    for step, before in enumerate(needs):
        for other in before:
            followers[other].append(step)
    waiting = [len(before) for before in needs]
    ready: dict[str, list[int]] = {pool: [] for pool in slots}
    for step, left in enumerate(waiting):
        if not left:
            heapq.heappush(ready[pools[step]], step)
    free, busy, now = dict(slots), dict.fromkeys(slots, 0.0), 0.0
    running: list[tuple[float, int]] = []
    while True:
        for pool, queue in ready.items():
            while queue and free[pool]:
                step = heapq.heappop(queue)
                free[pool] -= 1
                busy[pool] += seconds[step]
                heapq.heappush(running, (now + seconds[step], step))
        if not running:
            return Schedule(now, busy)
        now, done = heapq.heappop(running)
        free[pools[done]] += 1
        for step in followers[done]:
            waiting[step] -= 1
            if not waiting[step]:
                heapq.heappush(ready[pools[step]], step)


def longest_chain(needs: Sequence[Sequence[int]], seconds: Sequence[float]) -> list[int]:
    """Steps that wait for each other and take longest: no number of devices is faster than they are."""
    ends, before = [0.0] * len(needs), [-1] * len(needs)
    for step in TopologicalSorter(dict(enumerate(needs))).static_order():
        before[step] = max(needs[step], key=ends.__getitem__, default=-1)
        ends[step] = seconds[step] + (ends[before[step]] if needs[step] else 0.0)
    chain, step = [], max(range(len(needs)), key=ends.__getitem__)
    while step >= 0:
        chain.append(step)
        step = before[step]
    return chain[::-1]
