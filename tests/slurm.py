"""A SLURM cluster on this machine, for the tests: munged, slurmctld and one slurmd for each of two logical nodes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import until

NODES = ("a", "b")
# Without cgroups and accounting, which a machine for tests need not have. The GPUs are device files that any machine
# has; memory is what is declared. Finished jobs stay listed, so that a test can look at what they asked for.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
GresTypes=gpu
NodeName=a NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=100000 Gres=gpu:a100:2
NodeName=b NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=100000 Gres=gpu:a100:2
PartitionName=short Nodes=ALL MaxTime=3:00:00
PartitionName=accelerated Nodes=ALL Default=YES MaxTime=4:00:00
"""
GPUS = """\
NodeName=a Name=gpu Type=a100 Flags=no_gpu_env File=/dev/null
NodeName=a Name=gpu Type=a100 Flags=no_gpu_env File=/dev/zero
NodeName=b Name=gpu Type=a100 Flags=no_gpu_env File=/dev/full
NodeName=b Name=gpu Type=a100 Flags=no_gpu_env File=/dev/random
"""


def lacking() -> str | None:
    """Why no cluster can be started here, or None."""
    programs = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun") if not shutil.which(name)]
    if programs:
        return f"needs a SLURM: {', '.join(programs)} not found (Debian: slurm-wlm and munge)"
    return None if os.geteuid() == 0 else "starting slurmctld and slurmd needs root"


class Cluster:
    """A running cluster; commands of a test find it through the environment."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder}/bin:{os.environ['PATH']}"}

    def start(self) -> None:
        for name in ("state", "bin", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(host=host, folder=self.folder, ports=free_ports(3))
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text(GPUS)
        # Snakemake's plugin takes SLURM_CONF out of the environment of its srun; real clusters have /etc/slurm. And a job
        # that is told of a GPU refuses to work without: these are GPUs in name only.
        wrapper = self.folder / "bin" / "srun"
        words = f'unset SLURM_JOB_GPUS\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"'
        wrapper.write_text(f"#!/bin/sh\n{words}\n")
        wrapper.chmod(0o755)
        files = {name: f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "log", "seed")}
        key = (f"--key-file={self.folder}/munge.key", f"--socket={self.folder}/munge.socket")
        self.call("munged", "--force", *key, *files.values())
        self.start_controller()
        for node in NODES:
            self.call("slurmd", "-N", node)
        until(lambda: self.call("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2", 30, "two idle nodes")

    def start_controller(self) -> None:
        self.call("slurmctld")
        until(lambda: " UP" in self.call("scontrol", "ping", check=False), 30, "an answer of slurmctld")

    def stop(self, *names: str) -> None:
        """End daemons, by the numbers in their own files; all of them unless named."""
        for file in sorted(self.folder.glob("*.pid")):
            if names and file.stem not in names:
                continue
            number = int(file.read_text())
            os.kill(number, signal.SIGTERM)
            until(lambda number=number: not Path(f"/proc/{number}").exists(), 60, f"the end of {file.stem}")

    def call(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job so far, as `scontrol show job` tells it, oldest first."""
        lines = self.call("scontrol", "--oneliner", "show", "jobs").splitlines()
        jobs = [dict(pair.split("=", 1) for pair in line.split() if "=" in pair) for line in lines if "JobId=" in line]
        return sorted(jobs, key=lambda job: int(job["JobId"]))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster whose files lie in `folder`; it is gone afterwards, its jobs with it."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        if (folder / "slurmctld.pid").exists():
            cluster.call("scancel", "--me", check=False)
            queue = lambda: not cluster.call("squeue", "-h", check=False).strip()  # noqa: E731
            until(queue, 60, "the end of all jobs")
        cluster.stop()
