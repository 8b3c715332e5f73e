"""What remains of a workflow while it runs: predictions by kind of work, corrected by what has finished so far.

The Snakefile leaves the tasks of its plan here, where the logger of the same process (`snakemake_logger_plugin_progress`)
finds them. The first predictions come from the rates of results in the cache, in a fresh clone from those shipped with the
package; both are of other hours or machines, so what finishes rescales them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from diversity_spectra.planning.rates import Rates, known
from diversity_spectra.planning.schedule import schedule
from diversity_spectra.planning.steps import Step
from diversity_spectra.work import Sets

PRIOR = 0.5  # finished jobs of its kind for which the prediction itself counts, against what they took
LATE = 0.15  # of its prediction that a job is thought to have left, once it has taken longer than that
HANDOVER = 2.0  # seconds
UNKNOWN = 20.0  # seconds of a job of which no rate tells anything


@dataclass(frozen=True)
class Task:
    """One process: its name as the log has it, its kind (stage and kind of work), seconds by the rates, what it waits for."""

    name: str
    kind: tuple[str, str]
    seconds: float
    needs: tuple[str, ...] = ()


class Forecast:
    """Fed with starts and ends of tasks (seconds of any clock), it says what is left."""

    def __init__(self, tasks: Iterable[Task]):
        self.tasks = {task.name: task for task in tasks}
        self.running: dict[str, float] = {}
        self.slots = 1
        self._since = 0.0  # when a task last started or ended
        self._left = dict.fromkeys(self.tasks)
        self._taken: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)

    def started(self, name: str, now: float) -> None:
        if name in self._left:
            self._passed(now)
            self.running[name] = now

    def finished(self, name: str, now: float) -> None:
        self._passed(now)
        start = self.running.pop(name, None)
        if name in self._left and start is not None:
            self._left.pop(name)
            task = self.tasks[name]
            self._taken[task.kind].append((task.seconds, now - start))

    def _passed(self, now: float) -> None:
        """So many tasks were at work at a time; for an instant, while one takes another's place, more may seem to be."""
        self.slots = self._at_work(now)
        self._since = now

    def _at_work(self, now: float) -> int:
        return max(self.slots, len(self.running) if now - self._since >= HANDOVER else 1)

    def failed(self, name: str) -> None:
        """It will be tried again, or not: it is not running."""
        self.running.pop(name, None)

    def remaining(self, now: float) -> float:
        """Seconds until all is done: what is left, scheduled over as many slots as have been at work at a time."""
        overall = self._ratio([pair for pairs in self._taken.values() for pair in pairs], 1.0)
        ratios = {task.kind: self._ratio(self._taken[task.kind], overall) for task in self._of(self._left)}
        names = list(self._left)
        place = {name: index for index, name in enumerate(names)}
        seconds = []
        for task in self._of(names):
            expected = task.seconds * ratios[task.kind]
            if task.name in self.running:
                expected = max(expected - (now - self.running[task.name]), LATE * expected)
            seconds.append(expected)
        # What runs holds its slot already, so it comes first.
        order = sorted(range(len(names)), key=lambda index: names[index] not in self.running)
        new = {old: index for index, old in enumerate(order)}
        needs = [
            [
                new[place[need]]
                for need in self.tasks[names[old]].needs
                if need in place and names[old] not in self.running
            ]
            for old in order
        ]
        return schedule(needs, [seconds[old] for old in order], ["all"] * len(order), {"all": self._at_work(now)}).wall

    def _of(self, names: Iterable[str]) -> list[Task]:
        return [self.tasks[name] for name in names]

    @staticmethod
    def _ratio(pairs: list[tuple[float, float]], before: float) -> float:
        """Seconds taken over seconds predicted; `before` counts as much as PRIOR jobs."""
        if not pairs:
            return before
        mean = sum(predicted for predicted, _ in pairs) / len(pairs)
        predicted, taken = map(sum, zip(*pairs, strict=True))
        return (taken + PRIOR * mean * before) / (predicted + PRIOR * mean)


def tasks(steps: list[Step], rates: Rates | None = None) -> list[Task]:
    """The tasks of a plan. rates: of any device; those of the cache, then the shipped ones, where none are given."""
    rates = known() if rates is None else rates
    sets = Sets({step.job.out: step.job for step in steps})
    costs = []
    for step in (step for step in steps if step.open):
        work = step.job.work(sets, len(step.open))
        kind = (step.job.kind, work.kind)
        costs.append((step, kind, _predicted(rates, kind, work.units)))
    told = sorted(seconds for *_, seconds in costs if seconds is not None)
    usual = told[len(told) // 2] if told else UNKNOWN
    return [
        Task(step.told, kind, usual if seconds is None else seconds, tuple(need.told for need in step.needs))
        for step, kind, seconds in costs
    ]


def _predicted(rates: Rates, kind: tuple[str, str], units: float | None) -> float | None:
    """Seconds by the first rate of this kind of work; else those of an average job of the stage, on any device."""
    own = [rate for key, rate in rates.items() if (key.stage, key.kind) == kind]
    if own and units is not None:
        return own[0].predict(units)
    stage = [rate for key, rate in rates.items() if key.stage == kind[0]]
    stage = [rate for rate in stage if not rate.shipped] or stage
    return sum(rate.predict(rate.units) for rate in stage) / len(stage) if stage else None


# Of the workflow that this process runs; set by the Snakefile.
current: Forecast | None = None
