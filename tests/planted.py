"""Simulated runs with planted shifts, from which claims about spectra are judged; for tests and benchmarks.

Noise between runs is heavy-tailed and correlated over features, and part of it may be common to the runs of one seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from diversity_spectra.compare import claims
from diversity_spectra.compare.benefits import Benefits
from diversity_spectra.compare.beyond import Geometry, difference_of_cosines, directions, mean_cosine, share_beyond
from diversity_spectra.compare.controls import measured
from diversity_spectra.compare.options import Options

FEATURES = 12
BLOCK = 4
CONDITIONS = pd.DataFrame(
    [
        ("baseline", "", np.nan),
        *(("dropout", "", rate) for rate in (0.1, 0.3, 0.5)),
        *(("weight_decay", "", decay) for decay in (0.1, 0.3, 1.0)),
        *(("optimisation", "steps", factor) for factor in (0.5, 1.5)),
        *(("optimisation", "lr", factor) for factor in (0.5, 2.0)),
        *(("augmentation", kind, 1.0) for kind in ("rotation", "gaussian_noise", "augmix")),
        *(("synthetic", "added", ratio) for ratio in (0.5, 1.0)),
        ("synthetic", "replaced", 0.5),
    ],
    columns=["family", "kind", "strength"],
)
CONDITIONS.insert(0, "condition", [f"c{index}" for index in range(len(CONDITIONS))])
FAST = Options(bootstrap=200, permutations=200)


@dataclass(frozen=True)
class World:
    """What is planted: shifts as mixtures of four directions at right angles: progress, rate, dropout's own, data's own.

    Each family's mixture is scaled to `length`, in noise standard deviations per feature, at its greatest strength. shared:
    share of the noise that runs of one seed have in common. machines: share of it that jobs have in common which one of two
    machines has run; a job is a condition's block of `BLOCK` seeds. noisy: factor of the standard deviation of dropout's runs.
    """

    dropout: tuple[float, ...] = (0, 0, 0, 0)
    decay: tuple[float, ...] = (0, 0, 0, 0)
    data: tuple[float, ...] = (0, 0, 0, 0)
    length: float = 3.0
    optimised: bool = True
    shared: float = 0.0
    machines: float = 0.0
    noisy: float = 1.0

    def mixture(self, family: str) -> np.ndarray:
        return np.array({"dropout": self.dropout, "weight_decay": self.decay}.get(family, self.data), dtype=float)


NULL = World(optimised=False)
WORLDS = {
    "nothing": NULL,
    "nothing, shared seeds": World(optimised=False, shared=0.45),
    "nothing, two machines": World(optimised=False, machines=0.5),
    "nothing, noisy control": World(optimised=False, noisy=2.0),
    "progress": World(dropout=(1, 0, 0, 0), decay=(1, 0, 0, 0), data=(1, 0, 0, 0)),
    "progress and rate": World(dropout=(1, 0.5, 0, 0), decay=(1, 0, 0, 0), data=(1, 0.5, 0, 0)),
    "progress, shared seeds": World(dropout=(1, 0, 0, 0), decay=(1, 0, 0, 0), data=(1, 0, 0, 0), shared=0.45),
    "dropout": World(dropout=(0, 0, 1, 0), decay=(0, 0, 0.2, 1), data=(0, 0, 1, 0.3)),
    "decay": World(dropout=(1, 0, 1, 0), decay=(1, 0, 0, 1), data=(1, 0, 0.1, 1)),
    "dropout and progress": World(dropout=(1, 0, 1, 0), decay=(1, 0, 0, 0), data=(1, 0, 1, 0.6)),
    "dropout and progress, shared seeds": World(
        dropout=(1, 0, 1, 0), decay=(1, 0, 0, 0), data=(1, 0, 1, 0.6), shared=0.45
    ),
}


def planted(world: World, basis: np.ndarray) -> np.ndarray:
    """True shifts (conditions, features)."""
    rows = []
    for row in CONDITIONS.itertuples():
        if row.family == "optimisation":
            part = basis[{"steps": 0, "lr": 1}[row.kind]] * np.sign(np.log(row.strength)) * world.optimised
        elif row.family == "baseline":
            part = np.zeros(FEATURES)
        else:
            mixture = world.mixture(row.family)
            part = mixture @ basis / max(np.linalg.norm(mixture), 1e-9) * min(1.0, 0.4 + row.strength)
        rows.append(part * world.length * np.sqrt(FEATURES))
    return np.array(rows)


def simulate(world: World, seeds: int, baseline_runs: int, rng: np.random.Generator) -> tuple:
    """Vectors (runs, features), group and seed of each run (runs,), true shifts (conditions, features)."""
    shifts = planted(world, np.linalg.qr(rng.standard_normal((FEATURES, 4)))[0].T)
    sizes = np.where(CONDITIONS["family"] == "baseline", baseline_runs, seeds)
    group = np.repeat(np.arange(len(sizes)), sizes)
    seed = np.concatenate([np.arange(size) for size in sizes])

    def noise(count: int) -> np.ndarray:
        tails = rng.standard_t(8, (count, FEATURES)) / np.sqrt(8 / 6)
        return np.sqrt(0.5) * tails + np.sqrt(0.5) * rng.standard_normal((count, 1)) * np.where(
            np.arange(FEATURES) % 3, 1, -1
        )

    own = noise(len(group)) * np.where(CONDITIONS["family"] == "dropout", world.noisy, 1.0)[group][:, None]
    common = noise(baseline_runs)[seed]
    job = np.unique(np.column_stack([group, seed // BLOCK]), axis=0, return_inverse=True)[1].ravel()
    machine = noise(2)[rng.integers(2, size=job.max() + 1)[job]]
    left = 1 - world.shared - world.machines
    noises = np.sqrt(left) * own + np.sqrt(world.shared) * common + np.sqrt(world.machines) * machine
    return shifts[group] + noises, group, seed, shifts


def judged(vectors: np.ndarray, group: np.ndarray, seed: np.ndarray, options: Options = FAST) -> claims.Evidence:
    """What claims about spectra are judged from."""
    blocks = np.arange(FEATURES) % 4
    _, shift, controls, moved = measured(vectors, group, seed, CONDITIONS, blocks, options)
    nothing = np.zeros((len(CONDITIONS), 0))
    runs = Benefits(list(CONDITIONS["condition"]), *[nothing] * 4)
    return claims.Evidence(CONDITIONS, shift, controls, moved, runs, pd.DataFrame(), options)


def covered(evidence: claims.Evidence, shifts: np.ndarray) -> dict[str, bool | None]:
    """Do intervals at 95 % hold the truth, for one data condition: its plain and partial cosine with dropout, the partial one
    minus that with decay, its share beyond optimisation? None where there is no truth to hold."""
    path = directions(CONDITIONS.iloc[1:], ("steps", "lr"))
    true = Geometry(shifts[1:] @ shifts[1:].T, np.zeros((0, len(shifts) - 1, len(shifts) - 1)))
    beyond, true_beyond = evidence.plain.beyond(path), true.beyond(path)
    member = (CONDITIONS["kind"] == "augmix").to_numpy()[1:]
    dropout, decay = (evidence.direction(family) for family in ("dropout", "weight_decay"))

    def cosine(geometry: Geometry, direction: np.ndarray) -> float | None:
        along = geometry.gram @ direction
        size = np.sqrt(np.maximum(geometry.gram[member, member][0] * (along @ direction), 0.0))
        return along[member][0] / size if size > 1e-6 else None

    def holds(interval: tuple[float, float, float], truth: float | None) -> bool | None:
        return None if truth is None else bool(interval[1] - 1e-9 <= truth <= interval[2] + 1e-9)

    partial = [cosine(true_beyond, direction) for direction in (dropout, decay)]
    size = true.gram[member, member][0]
    return {
        "plain cosine": holds(mean_cosine(evidence.plain, member, dropout, 0.05), cosine(true, dropout)),
        "partial cosine": holds(mean_cosine(beyond, member, dropout, 0.05), partial[0]),
        "difference": holds(
            difference_of_cosines(beyond, member, dropout, decay, 0.05),
            None if None in partial else partial[0] - partial[1],
        ),
        "share beyond": holds(
            share_beyond(evidence.plain, beyond, member, 0.05),
            true_beyond.gram[member, member][0] / size if size > 0 else None,
        ),
    }
