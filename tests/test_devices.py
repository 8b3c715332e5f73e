"""Leases of devices: never more processes on one than it has slots, and none left locked by a killed process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch

from diversity_spectra import devices
from diversity_spectra.errors import UserError
from diversity_spectra.seeds import derive_seed

PROCESSES, GPUS, SLOTS = 100, 4, 2

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


def test_float32_is_float32_and_less_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's own default
    product = torch.nn.Linear(64, 64)
    made = {}
    for precision, tf32 in (("tf32", True), ("bfloat16", False), ("float32", False)):
        with torch.inference_mode(), devices.computing(precision, torch.device("cpu")):
            made[precision] = product(torch.linspace(-1, 1, 64)).float()
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == tf32
    assert torch.equal(made["tf32"], made["float32"]), "on a CPU there is no such thing"
    assert 0 < (made["bfloat16"] - made["float32"]).abs().max() < 0.02


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


class Machine:
    """A machine with GPUs, as torch sees it: by UUID, with a compute capability each."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, uuids: list[str], capability: tuple[int, int] = (9, 0)):
        self.current: list[torch.device] = []
        cuda = devices.torch.cuda
        patch.setattr(devices, "LEASES", folder / "leases")
        patch.setattr(devices, "gpus", lambda: [])
        patch.setattr(cuda, "is_available", lambda: bool(uuids))
        patch.setattr(cuda, "device_count", lambda: len(uuids))
        patch.setattr(cuda, "get_device_name", lambda device: "fake")
        patch.setattr(cuda, "get_device_properties", lambda index: types.SimpleNamespace(uuid=uuids[index]))
        patch.setattr(cuda, "get_device_capability", lambda index: capability)
        patch.setattr(cuda, "get_arch_list", lambda: ["sm_75", "sm_86", "sm_90"])
        patch.setattr(cuda, "set_device", self.current.append)
        for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"):
            patch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _nothing_stays_leased():
    yield
    devices.release()


def test_a_named_device_is_leased_too_and_must_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, tmp_path, ["a", "b"])
    assert devices.choose("cuda:1", 1).index == 1
    assert devices.choose("auto", 1).index == 0  # the other one is taken
    assert [device.index for device in machine.current] == [1, 0]
    with pytest.raises(UserError, match="became free"):
        devices.lease(["b"], patience=0.1)
    devices.release()
    assert devices.choose("cuda", 1).index == 0
    devices.release()
    with pytest.raises(UserError, match="cuda:2: torch finds 2 GPUs"):
        devices.choose("cuda:2", 1)
    assert oct((tmp_path / "leases").stat().st_mode)[-4:] == "0700"


def test_a_device_that_is_none_is_named() -> None:
    for name in ("gpu", "mps", "cuda:", ""):
        with pytest.raises(UserError, match="is not allowed; allowed: auto, cpu, cuda, cuda:N"):
            devices.choose(name, 1)


def test_a_lease_is_of_the_gpu_whatever_its_number_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One allocation of SLURM with several GPUs, or two that see theirs as cuda:0: two processes never get the same."""
    Machine(monkeypatch, tmp_path, ["a", "b"])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert devices.choose("auto", 1).index == 0
    Machine(monkeypatch, tmp_path, ["b", "a"])
    assert devices.choose("auto", 1).index == 0  # b
    with pytest.raises(UserError, match="no device of b, a became free"):
        devices.lease(["b", "a"], patience=0.1)
    assert devices.choose("auto", 1, jobs_per_gpu=2).index == 0


def test_of_several_mig_instances_a_process_takes_a_free_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, tmp_path, ["one"])  # torch sees the first that is named
    for expected in ("MIG-1", "MIG-2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1,MIG-2")
        assert devices.choose("auto", 1).index == 0
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize("visible", ["", "-1", "-1,0", "NoDevFiles"])
def test_hidden_gpus_leave_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    Machine(monkeypatch, tmp_path, [])
    monkeypatch.setattr(devices, "gpus", lambda: ["NVIDIA A100"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.choose("auto", 1).type == "cpu"


@pytest.mark.parametrize(
    ("name", "environment", "there", "said"),
    [
        ("auto", {"CUDA_VISIBLE_DEVICES": "0"}, [], "there is CUDA_VISIBLE_DEVICES=0, but torch cannot use it"),
        ("auto", {"CUDA_VISIBLE_DEVICES": "MIG-77"}, [], "there is CUDA_VISIBLE_DEVICES=MIG-77, but"),
        ("auto", {"SLURM_JOB_GPUS": "2"}, [], r"there is the GPU that SLURM gave \(SLURM_JOB_GPUS=2\), but"),
        ("auto", {}, ["Tesla K80"], "there is Tesla K80, but torch cannot use it"),
        ("cuda:1", {}, [], "device cuda:1: torch finds no GPU here"),
    ],
)
def test_a_promised_gpu_that_torch_cannot_use_is_no_run_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, environment: dict, there: list[str], said: str
) -> None:
    Machine(monkeypatch, tmp_path, [])

    def too_old() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nMore")

    monkeypatch.setattr(devices.torch.cuda, "init", too_old)
    monkeypatch.setattr(devices.torch.version, "cuda", "13.2")
    monkeypatch.setattr(devices, "gpus", lambda: there)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=rf"{said}.*too old \(found version 11040\); mend that, or set") as error:
        devices.choose(name, 1)
    assert "\n" not in str(error.value)


def test_a_gpu_that_this_torch_has_no_code_for_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, tmp_path, ["old"], capability=(3, 7))
    with pytest.raises(UserError, match=r"fake has compute capability 3\.7, and torch .* built for sm_75 sm_86 sm_90"):
        devices.choose("auto", 1)


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((8, 6), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((9, 0), ["sm_90a"], False),
        ((12, 1), ["sm_120"], True),
    ],
)
def test_which_code_runs_on_which_gpu(capability: tuple[int, int], built: list[str], runs: bool) -> None:
    assert devices.runs_on(capability, built) is runs


def test_a_resumed_run_on_another_gpu_draws_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks come from the generator of the very device, wherever the process stood when it was stopped."""

    def masks(steps: range) -> list[torch.Tensor]:
        drawn = tuple(torch.Generator() for _ in range(4))
        monkeypatch.setattr(torch.cuda, "default_generators", drawn)
        made = []
        for step in steps:
            devices.seed(derive_seed("run", step), torch.device("cuda", 2))
            made.append(torch.rand(8, generator=drawn[2]))
        assert drawn[0].initial_seed() == torch.Generator().initial_seed()
        return made

    whole, resumed = masks(range(6)), masks(range(3, 6))
    assert all(torch.equal(*pair) for pair in zip(whole[3:], resumed, strict=True))
    assert not torch.equal(whole[2], whole[3])


def test_lack_of_memory_halves_the_batch_and_keeps_the_order() -> None:
    sizes = []

    def doubled(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("too large")
        return 2 * part

    done = torch.cat(devices.in_memory(doubled, zip(torch.arange(20).split(8), strict=True)))
    assert torch.equal(done, 2 * torch.arange(20))
    assert sizes == [8, 4] + [2] * 10
    with pytest.raises(UserError, match="even with one image at a time"):
        devices.in_memory(lambda part, nothing: doubled(part.repeat(9)), [(torch.arange(3), None)])


def test_a_link_in_the_temporary_folder_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "leases").symlink_to("victim")
    monkeypatch.setattr(devices, "LEASES", tmp_path / "leases")
    with pytest.raises(UserError, match="is not a folder of yours"):
        devices.lease(["0"])
    assert not list((tmp_path / "victim").iterdir())
    assert all(path.stat().st_mode & 0o666 == 0o666 for path in (tmp_path / "leases").iterdir())
