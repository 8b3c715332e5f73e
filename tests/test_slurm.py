"""The SLURM profile against a real SLURM (`make test-slurm`): from end to end, and what goes wrong on a cluster."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import TINY, Checkout, assert_same_tables, copy_checkout, until, untrained
from slurm import NODES, Cluster, lacking, running

pytestmark = pytest.mark.slurm
PROFILE = "workflow/profiles/slurm"
# A cluster of this size answers at once, and nothing is on a network.
QUICK = ("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5")
ON_GPU = ("finetune", "evaluate", "generator", "shard")
PARTITIONS = """\
partitions:
  short: {max_runtime: 180}
  accelerated: {max_runtime: 240, max_gpu: 2}
"""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := lacking():
        pytest.skip(reason)
    with running(tmp_path_factory.mktemp("slurm")) as cluster, pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


def enter_site(checkout: Checkout) -> None:
    """Fill in the profile's site values as a user of the cluster does."""
    profile = checkout.folder / PROFILE / "profile.yaml"
    text = profile.read_text()
    request = ("set-resources:", "  finetune: &gpu {gpu_model: a100}", *(f"  {name}: *gpu" for name in ON_GPU[1:]))
    for line in ("slurm-partition-config: partitions.yaml", *request):
        assert f"# {line}" in text
        text = text.replace(f"# {line}", line)
    profile.write_text(text)
    (checkout.folder / "partitions.yaml").write_text(PARTITIONS)


def rule(job: dict[str, str]) -> str:
    """The stage of a job: `finetune` of the comment `rule_finetune_wildcards_mlp_baseline-0123456789ab_3`."""
    return re.match(r"rule_([a-z]+)", job["Comment"])[1]


def test_tables_are_those_of_a_local_run(cluster: Cluster, finished: Checkout, tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path)
    enter_site(checkout)
    start = time.monotonic()
    done = checkout.snakemake("--workflow-profile", PROFILE, *QUICK)
    seconds = time.monotonic() - start
    assert "FAILED" not in done.stderr
    assert_same_tables(finished, checkout)
    jobs = cluster.jobs()
    print(
        f"\nlocal, 2 cores: {finished.seconds:.0f} s; SLURM, 2 nodes of 1 CPU on the same cores: {seconds:.0f} s for"
        f" {len(jobs)} jobs, {(seconds - finished.seconds) / len(jobs):.1f} s more for each"
    )
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    for job in jobs:
        on_gpu = rule(job) in ON_GPU
        heavy = on_gpu or rule(job) in ("diversity", "pretrained")
        assert job.get("TresPerJob") == ("gres:gpu:a100:1" if on_gpu else None), job["Comment"]
        longest = on_gpu or rule(job) in ("pretrained", "augment")
        assert job["Partition"] == ("accelerated" if longest else "short"), job["Comment"]
        assert job["MinMemoryNode"] in (("16000M", "15.62G", "15.63G") if heavy else ("4000M", "3.91G")), job["Comment"]
        assert job["NumCPUs"] == "1", job["Comment"]


def test_faults_cost_no_finished_work(
    cluster: Cluster, finished: Checkout, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In one run: a job cancelled, one over its time limit, a node down, slurmctld restarted, Snakemake killed."""
    checkout = untrained(finished, tmp_path / "checkout")
    first = len(cluster.jobs())
    limit = ("finetune:runtime=2", "finetune:slurm_extra=\"'--signal=TERM@60'\"")
    command = command_of(checkout, "--set-resources", *limit)
    with (tmp_path / "first.log").open("w") as stream:
        workflow = subprocess.Popen(command, cwd=checkout.folder, env=environment(checkout), stderr=stream)
    request.addfinalizer(workflow.kill)
    held = until(lambda: pending(cluster, first, "mlp_baseline"), 60, "the training that is to meet its limit")
    cluster.call("scontrol", "hold", held)

    cancelled = until(lambda: cancel_one(cluster, first), 60, "a cancelled job")
    cluster.stop("slurmctld")
    time.sleep(3)
    cluster.start_controller()

    node = until(lambda: of_state(cluster, first, "RUNNING"), 60, "a running job")[0]["NodeList"]
    cluster.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    requeued = until(
        lambda: [job for job in cluster.jobs()[first:] if job["Restarts"] != "0"], 60, "a job queued again"
    )
    cluster.call("scontrol", "update", f"nodename={node}", "state=resume", check=False)  # it may be back by itself

    cluster.call("scontrol", "release", held)
    assert meet_the_limit(checkout.folder) != "0"

    until(lambda: done(checkout, "evaluate"), 240, "an evaluated run")
    # What is submitted from here on waits, so that something is left in the queue however fast the rest was.
    cluster.call("scontrol", "update", f"nodename={','.join(NODES)}", "state=drain", "reason=test")
    until(lambda: of_state(cluster, first, "PENDING"), 240, "a job that waits")
    workflow.kill()
    workflow.wait()
    cluster.call("scontrol", "update", f"nodename={','.join(NODES)}", "state=resume")
    # A job that is cancelled between its result and its end is made again.
    settled = (datetime.now(UTC) - timedelta(seconds=10)).isoformat()
    before = {path: ended for path, ended in all_done(checkout).items() if ended < settled}
    assert before
    again = subprocess.run(
        command_of(checkout), cwd=checkout.folder, env=environment(checkout), capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr[-4000:]
    assert "cancelled what a killed workflow left in the queue" in again.stderr

    assert_same_tables(finished, checkout)
    after = all_done(checkout)
    assert {path: after[path] for path in before} == before
    assert not list((checkout.folder / "results/cache").glob(".resume/*"))
    jobs = {job["JobId"]: job for job in cluster.jobs()[first:]}
    assert jobs[cancelled]["JobState"] == "CANCELLED"
    assert {jobs[job["JobId"]]["JobState"] for job in requeued} <= {"COMPLETED", "CANCELLED"}
    assert not [job for job in jobs.values() if "gpu" in job.get("TresPerJob", "").removesuffix("gpu:0")]


def test_edits_during_a_run_reach_no_result(
    cluster: Cluster, finished: Checkout, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Jobs that start after the configuration was saved anew do what was planned; after an edit of code none stores."""
    checkout = untrained(finished, tmp_path / "checkout")
    config, module = checkout.folder / TINY, checkout.folder / "workflow/diversity_spectra/evaluate/command.py"
    written, code = config.read_text(), module.read_text()
    assert "steps: 60" in written and "BATCH = 256" in code
    with (tmp_path / "first.log").open("w") as stream:
        workflow = subprocess.Popen(
            command_of(checkout, "--retries", "0"), cwd=checkout.folder, env=environment(checkout), stderr=stream
        )
    request.addfinalizer(workflow.kill)
    until(lambda: done(checkout, "finetune"), 600, "a trained run")
    config.write_text(written.replace("steps: 60", "steps: 40"))
    until(lambda: done(checkout, "evaluate"), 600, "a run evaluated after the configuration was saved")
    module.write_text(code.replace("BATCH = 256", "BATCH = 128"))
    assert workflow.wait(timeout=900) != 0
    said = (tmp_path / "first.log").read_text()
    assert "changed since this job was planned, so nothing is stored" in said
    assert f"{TINY} has changed since this workflow read it" in said
    config.write_text(written)
    module.write_text(code)
    again = subprocess.run(
        command_of(checkout), cwd=checkout.folder, env=environment(checkout), capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr[-4000:]
    assert_same_tables(finished, checkout)


def command_of(checkout: Checkout, *arguments: str) -> list[str]:
    snakemake = str(Path(sys.executable).parent / "snakemake")
    return [snakemake, "--configfile", TINY, "--workflow-profile", PROFILE, *QUICK, *arguments]


def environment(checkout: Checkout) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout.folder / "workflow")}


def done(checkout: Checkout, stage: str) -> dict[str, str]:
    """When each run of a stage was made."""
    specs = (checkout.folder / "results/cache" / stage).glob("*/*/seed-*/spec.json")
    return {str(path): json.loads(path.read_text())["ended"] for path in specs}


def of_state(cluster: Cluster, first: int, state: str) -> list[dict[str, str]]:
    return [job for job in cluster.jobs()[first:] if job["JobState"] == state]


def all_done(checkout: Checkout) -> dict[str, str]:
    return done(checkout, "finetune") | done(checkout, "evaluate") | done(checkout, "spectra")


def pending(cluster: Cluster, first: int, runs: str) -> str | None:
    """The training of these runs that waits for a node."""
    named = f"rule_finetune_wildcards_{runs}"
    return next((job["JobId"] for job in of_state(cluster, first, "PENDING") if named in job["Comment"]), None)


def cancel_one(cluster: Cluster, first: int) -> str | None:
    """Cancel a running job; its number, unless it ended before."""
    if not (running := of_state(cluster, first, "RUNNING")):
        return None
    number = running[-1]["JobId"]
    cluster.call("scancel", number, check=False)
    until(lambda: state_of(cluster, number) not in ("RUNNING", "COMPLETING"), 60, "its end")
    return number if state_of(cluster, number) == "CANCELLED" else None


def state_of(cluster: Cluster, number: str) -> str:
    return next(job["JobState"] for job in cluster.jobs() if job["JobId"] == number)


def meet_the_limit(checkout: Path) -> str:
    """Hold a training in the middle of a run until its time limit; the step at which it saved its state and went on."""
    training, log = stopped_training(checkout)
    # SLURM's signal waits for a training that stands still.
    step = until(lambda: stopped_at(training, log), 180, "a state saved at the time limit", pause=0.01)
    resumed = until(lambda: re.search(r"resuming at step (\d+)", text_of(log)), 180, "the training's next attempt")[1]
    assert resumed == step
    return resumed


def stopped_training(checkout: Path) -> tuple[int, Path]:
    """Wait for the training of mlp's baseline and stop its process in the middle of a run: its number and its log.

    It takes a second, so from its start on it runs for moments only, and stands still while its log is read.
    """
    caught: list[tuple[int, Path]] = []

    def moment() -> bool:
        number = next(processes(checkout, "finetune", "train", "/mlp/baseline-"), None)
        with suppress(ProcessLookupError):
            while number:
                os.kill(number, signal.SIGSTOP)
                log = next(checkout.glob("logs/finetune/mlp/baseline-*/*.log"), None)
                if log and in_the_middle(log):
                    caught.append((number, log))
                    return True
                os.kill(number, signal.SIGCONT)
                time.sleep(0.02)
        return False

    until(moment, 300, "a step of the training", pause=0.01)
    return caught[0]


def text_of(log: Path) -> str:
    """What a log says; a retry removes it for a moment."""
    return log.read_text() if log.exists() else ""


def in_the_middle(log: Path) -> bool:
    lines = text_of(log).splitlines()
    step = re.search(r"step (\d+) of (\d+)", lines[-1]) if lines else None
    return bool(step) and int(step[1]) < int(step[2]) // 2


def processes(folder: Path, *words: str) -> Iterator[int]:
    """Numbers of the processes of a checkout whose command line has all these words."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line, place = (process / "cmdline").read_text(), (process / "cwd").resolve()
        except OSError:
            continue
        if place == folder.resolve() and "diversity-spectra\0" in line and all(word in line for word in words):
            yield int(process.name)


def stopped_at(process: int, log: Path) -> str | None:
    """The step at which a training that stands still was told to stop, once it has saved its state."""
    if has_pending(process, signal.SIGTERM):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
    said = re.search(r"stopped at step (\d+)", text_of(log))
    return said and said[1]


def has_pending(process: int, number: int) -> bool:
    """Whether a signal waits for the process."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # SLURM has woken it itself
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def test_a_job_starts_as_soon_as_one_of_an_empty_snakefile(tmp_path: Path) -> None:
    """Every job on a cluster parses the Snakefile again, twice, and plans nothing."""
    (tmp_path / "Snakefile").write_text('rule data:\n    output: "{item}"\n    shell: "touch {output}"\n')
    checkout = copy_checkout(tmp_path / "checkout")
    checkout.snakemake("-n")  # writes what jobs read instead of the configuration
    target = next(checkout.folder.glob("results/cache/.jobs/data/*.json")).stem
    empty = min(cpu_seconds(target, tmp_path) for _ in range(5))
    full = min(cpu_seconds(target, checkout.folder, "--configfiles", TINY) for _ in range(5))
    print(f"\na job's start: {full:.2f} s of CPU, {empty:.2f} s with an empty Snakefile")
    assert full < 1.3 * empty


def cpu_seconds(item: str, folder: Path, *arguments: str) -> float:
    """CPU time of one start of Snakemake as the plugin's jobs make it, without the job itself."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    job = ("--target-jobs", f"data:item={item}", "--allowed-rules", "data", "--force", "--mode", "remote", "--dry-run")
    command = [sys.executable, "-m", "snakemake", *job, "--cores", "all", "--nolock", "--no-hooks", *arguments]
    subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": f"{folder}/workflow"}, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
