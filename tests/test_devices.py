"""Leases of devices: never more processes on one than it has slots, and none left locked by a killed process."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diversity_spectra import devices
from diversity_spectra.errors import UserError

PROCESSES, GPUS, SLOTS = 200, 4, 2

# Takes a device, notes itself as long as it works on it, and is killed or ends. `filelock` and the module under test
# are all that is imported: 200 copies of torch would not fit a small machine.
WORKER = """
import os, sys, time, types, signal
sys.modules["torch"] = types.ModuleType("torch")
sys.path.insert(0, {package!r})
from pathlib import Path
from diversity_spectra import devices
devices.LEASES = Path({leases!r})
device = devices.lease([str(g) for g in range({gpus})], slots={slots}, patience=240)
mark = Path({leases!r}).parent / "busy" / f"{{device}}-{{os.getpid()}}"
mark.touch()
time.sleep({work})
if {killed}:
    mark.unlink()
    os.kill(os.getpid(), signal.SIGKILL)
mark.unlink()
"""


def test_many_processes_share_few_devices(tmp_path: Path) -> None:
    (tmp_path / "busy").mkdir()
    moments = random.Random(0)
    package = str(Path(devices.__file__).parent.parent)
    values = {"package": package, "leases": str(tmp_path / "leases"), "gpus": GPUS, "slots": SLOTS}
    waiting = [i % 3 == 0 for i in range(PROCESSES)]
    running: list[subprocess.Popen] = []
    most = dict.fromkeys(map(str, range(GPUS)), 0)
    while waiting or running:
        while waiting and len(running) < 40:
            code = WORKER.format(**values, work=moments.uniform(0.01, 0.1), killed=waiting.pop())
            running.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL))
        for device in most:
            most[device] = max(most[device], len(list((tmp_path / "busy").glob(f"{device}-*"))))
        running = [process for process in running if process.poll() is None]
        time.sleep(0.005)
    assert 1 <= max(most.values()) <= SLOTS, most
    # Every slot is free again.
    devices_free = [
        devices.FileLock(tmp_path / "leases" / f"{g}.{s}", timeout=0) for g in range(GPUS) for s in range(SLOTS)
    ]
    for lock in devices_free:
        lock.acquire()
        lock.release()


def test_waiting_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "LEASES", tmp_path / "leases")
    assert devices.lease(["0"]) == "0"
    with pytest.raises(UserError, match="no device of 0 became free"):
        devices.lease(["0"], patience=0.5)
    devices._held.clear()


def test_a_named_device_is_leased_too_and_must_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "LEASES", tmp_path / "leases")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "get_device_name", lambda device: "fake")
    assert devices.choose("cuda:1", 1).index == 1
    assert devices.choose("auto", 1).index == 0  # the other one is taken
    with pytest.raises(UserError, match="became free"):
        devices.lease(["7"], patience=0.1)
    devices.release()
    assert devices.choose("cuda", 1).index == 0
    devices.release()
    with pytest.raises(UserError, match="cuda:2: torch finds 2 GPUs"):
        devices.choose("cuda:2", 1)
    assert oct((tmp_path / "leases").stat().st_mode)[-4:] == "0700"


def test_a_link_in_the_temporary_folder_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "leases").symlink_to("victim")
    monkeypatch.setattr(devices, "LEASES", tmp_path / "leases")
    with pytest.raises(UserError, match="is not a folder of yours"):
        devices.lease(["0"])
    assert not list((tmp_path / "victim").iterdir())
    assert all(path.stat().st_mode & 0o666 == 0o666 for path in (tmp_path / "leases").iterdir())


def test_visible_devices_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert devices.visible_devices() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.visible_devices() == []
