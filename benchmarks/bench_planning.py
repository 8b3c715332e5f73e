"""Time and memory of planning many runs (`snakemake -n`), beside Snakefiles of as many trivial jobs.

python benchmarks/bench_planning.py            # prints the tables of benchmarks/planning.md; about 10 minutes
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
RUNS = (100, 1_000, 10_000)
SEEDS = 20
TRIVIAL = """
rule all:
    input: expand("made/{{job}}.txt", job=range({jobs}))
rule one:
    output: "made/{{job}}.txt"
    shell: "touch {{output}}"
"""
CHAIN = """
rule all:
    input: expand("{{stage}}/{{run}}.txt", stage=["b", "c"], run=range({runs}))
rule first:
    output: "a/{{run}}.txt", "a/{{run}}.record"
    shell: "touch {{output}}"
rule second:
    input: "a/{{run}}.record"
    output: "b/{{run}}.txt", "b/{{run}}.record"
    shell: "touch {{output}}"
rule third:
    input: "a/{{run}}.record"
    output: "c/{{run}}.txt", "c/{{run}}.record"
    shell: "touch {{output}}"
"""


def experiment(runs: int, seeds_per_job: int) -> dict:
    """A configuration with about that many runs of one small network, none of them made yet."""
    config = yaml.safe_load((ROOT / "tests/configs/tiny.yaml").read_text())
    model = config["models"][1]
    conditions = max(1, runs // SEEDS - 2)
    rates = [round(0.9 * (index + 1) / conditions, 6) for index in range(conditions)]
    model |= {"seeds": SEEDS, "baseline_runs": 2 * SEEDS, "seeds_per_job": seeds_per_job}
    model["conditions"] = {"dropout": {"rates": rates}}
    return {**config, "experiment": "planning", "models": [model]}


def planned(folder: Path, *arguments: str) -> tuple[int, float, float]:
    """Jobs, seconds of processor time and peak memory (MB) of one dry run, which has one thread."""
    command = [str(Path(sys.executable).parent / "snakemake"), "-n", "--cores", "1", *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder / "workflow")},
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = usage.ru_utime + usage.ru_stime
    if status:
        raise SystemExit(output[-2000:])
    jobs = next(int(line.split()[1]) for line in output.splitlines() if line.startswith("total "))
    return jobs, seconds, usage.ru_maxrss / 1000


def main() -> None:
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()},"
    )
    print(f"snakemake {metadata.version('snakemake')}; seconds of processor; the compared runs alternate\n")
    print(
        "| runs | seeds per job | jobs | ours, s | trivial jobs, s | a chain of as many jobs, s | ratios | peak memory, MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("Snakefile", "config.yaml", "workflow", "envs"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        for runs in RUNS:
            for seeds_per_job in (1, SEEDS):
                (folder / "planning.yaml").write_text(yaml.safe_dump(experiment(runs, seeds_per_job)))
                kinds: dict[str, list[tuple[int, float, float]]] = {"ours": [], "trivial": [], "chain": []}
                for _ in range(3 if runs < RUNS[-1] else 1):
                    kinds["ours"].append(planned(folder, "--configfile", "planning.yaml"))
                    jobs = kinds["ours"][0][0]
                    (folder / "Trivial").write_text(TRIVIAL.format(jobs=jobs))
                    (folder / "Chain").write_text(CHAIN.format(runs=jobs // 3))
                    kinds["trivial"].append(planned(folder, "-s", "Trivial"))
                    kinds["chain"].append(planned(folder, "-s", "Chain"))
                times = {kind: statistics.median(seconds for _, seconds, _ in rows) for kind, rows in kinds.items()}
                memory = " / ".join(f"{max(row[2] for row in rows):.0f}" for rows in kinds.values())
                ratios = f"{times['ours'] / times['trivial']:.1f}, {times['ours'] / times['chain']:.1f}"
                print(
                    f"| {runs:,} | {seeds_per_job} | {jobs:,} | {times['ours']:.1f} | {times['trivial']:.1f} |"
                    f" {times['chain']:.1f} | {ratios} | {memory} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
