"""False verdicts, coverage and power of the claims about spectra, in simulated worlds with a known answer.

    python benchmarks/bench_inference.py [--worlds 1000] [--only dropout] [--jobs 1]

Prints Markdown tables: benchmarks/inference.md. Worlds are those of tests/planted.py, their seeds fixed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy: products of matrices this small wait for threads
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from planted import WORLDS, covered, judged, simulate

from diversity_spectra.compare import claims

DESIGNS = ((3, 6), (5, 10), (8, 16))
JUDGES = {
    "a": claims.like_regularisers,
    "b": claims.more_like_dropout,
    "e": claims.unlike_optimisation,
}
VERDICTS = (claims.SUPPORTED, claims.CONTRADICTED)
COVERED = ("plain cosine", "partial cosine", "difference", "share beyond")


def one(case: tuple[str, int, int], worlds: int) -> str:
    """A row: shares of verdicts that are decided, and coverage where there is a truth to cover."""
    name, seeds, baseline_runs = case
    rng = np.random.default_rng([seeds, baseline_runs, list(WORLDS).index(name)])
    verdicts, held = defaultdict(list), defaultdict(list)
    for _ in range(worlds):
        *runs, shifts = simulate(WORLDS[name], seeds, baseline_runs, rng)
        evidence = judged(*runs)
        for letter, judge in JUDGES.items():
            verdicts[letter].append(judge(evidence).verdict)
        for what, holds in covered(evidence, shifts).items():
            if holds is not None:
                held[what].append(holds)
    cells = [
        " / ".join(f"{100 * np.mean([found == verdict for found in verdicts[letter]]):.3g}" for verdict in VERDICTS)
        for letter in JUDGES
    ]
    cells += [f"{100 * np.mean(held[what]):.1f}" if held[what] else "" for what in COVERED]
    return f"| {name} | {seeds} / {baseline_runs} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--only", default="", help="worlds whose names hold this")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    heads = ["world", "runs / baseline runs", *(f"({letter})" for letter in JUDGES), *COVERED]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}", flush=True)
    cases = [(name, *design) for name in WORLDS if arguments.only in name for design in DESIGNS]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for row in pool.map(partial(one, worlds=arguments.worlds), cases):
            print(row, flush=True)


if __name__ == "__main__":
    main()
