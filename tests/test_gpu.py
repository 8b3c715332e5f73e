"""What only a GPU shows, on every GPU of the machine: `pytest -m gpu -n 0`. Without one the CPU stands in, at small sizes."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diversity_spectra import devices
from diversity_spectra.finetune import models, training
from diversity_spectra.finetune.images import Images
from diversity_spectra.finetune.job import Network, Training

pytestmark = pytest.mark.gpu

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
DEVICES = [torch.device("cuda", number) for number in range(GPUS)] or [torch.device("cpu")]
VIT = Network(architecture="vit_tiny_patch16_224", image_size=32, options={"patch_size": 8, "depth": 2, "num_heads": 3})
RECIPE = Training(steps=8, batch_size=16, lr=1e-3, dropout=0.2, dropout_where="blocks", flip=True, precision="bfloat16")


@pytest.fixture(params=DEVICES, ids=str)
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param.type == "cuda":
        torch.cuda.set_device(request.param)
    return request.param


class States:
    """In the place of `Resume`: a state in memory, after which the training is stopped."""

    def __init__(self, stop_after: int = 0, state: dict | None = None):
        self.steps, self.stop_after, self.state, self.saved = 0, stop_after, state, None

    def load(self) -> dict | None:
        return self.state

    def due(self) -> bool:
        self.steps += 1
        return self.steps == self.stop_after

    def save(self, state: dict) -> None:
        self.saved = copy.deepcopy(state)
        raise StopIteration

    def watching(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()


def images(device: torch.device, count: int = 64) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Images(pixels, np.arange(count) % 10, VIT, ((0.5,) * 3, (0.5,) * 3), device)


def trained(device: torch.device, states: States, **changes: object) -> tuple[str, training.Outcome | None]:
    """Digest of the weights, and what became of the training unless it was stopped."""
    torch.manual_seed(0)
    recipe, outcome = RECIPE.model_copy(update=changes), None
    model = models.create(VIT, 10, None, recipe.dropout, "blocks").to(device)
    with contextlib.suppress(StopIteration):
        outcome = training.train(model, images(device), recipe, 1, states)
    weights = [tensor.float().cpu().numpy().tobytes() for tensor in model.state_dict().values()]
    return hashlib.sha256(b"".join(weights)).hexdigest(), outcome


def test_a_training_is_repeated_and_resumed_to_the_same_bits(device: torch.device) -> None:
    """Dropout and flips are on: their streams are those of this very device."""
    first, second = trained(device, States())[0], trained(device, States())[0]
    assert first == second
    stopped = States(stop_after=4)
    trained(device, stopped)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(99)
    assert trained(device, States(state=stopped.saved))[0] == first


def test_equal_gpus_give_equal_results() -> None:
    kinds: dict[str, set[str]] = {}
    for each in DEVICES:
        kinds.setdefault(devices.describe(each), set()).add(trained(each, States())[0])
    assert all(len(digests) == 1 for digests in kinds.values()), kinds


def test_held_and_read_ahead_are_the_same(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    held = trained(device, States())[0]
    monkeypatch.setattr(devices, "room", lambda device: 0)
    assert images(device).held is None
    assert trained(device, States())[0] == held


@pytest.mark.skipif(not GPUS, reason="a CPU does not run out of memory in this way")
def test_lack_of_memory_is_survived(device: torch.device) -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    loss = trained(device, States(), batch_size=64, dropout=0.0)[1].history[-1]["loss"]
    needed, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.7 * needed / total, device)
    try:
        outcome = trained(device, States(), batch_size=64, dropout=0.0)[1]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert outcome.micro_batch < 64
    assert abs(outcome.history[-1]["loss"] - loss) < 0.05


def test_every_process_gets_a_gpu_of_its_own(tmp_path: Path) -> None:
    """One process more than there are GPUs waits until the first one ends."""
    names = GPUS or 1
    code = (
        "import sys, time; from pathlib import Path; from diversity_spectra import devices;"
        f"devices.LEASES = Path({str(tmp_path / 'leases')!r});"
        + ("print(devices.choose('auto', 1), " if GPUS else "print(devices.lease(['cpu']), ")
        + "time.time(), flush=True); time.sleep(3)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(names + 1)
    ]
    told = [process.communicate(timeout=300)[0].split() for process in running]
    started = sorted(float(when) for _, when in told)
    assert len({name for name, _ in told}) == names
    assert started[-1] - started[0] > 2.5


def test_spectra_of_a_gpu_are_those_of_the_cpu(device: torch.device, tmp_path: Path) -> None:
    from diversity_spectra.spectra.table import analyse

    torch.manual_seed(0)
    save_file(models.create(VIT, 10).state_dict(), tmp_path / "model.safetensors")
    here, there = (
        analyse(tmp_path / "model.safetensors", device=where).rows.query("analysed") for where in ("cpu", device.type)
    )
    for measure in ("alpha", "stable_rank", "entropy"):
        np.testing.assert_allclose(there[measure], here[measure], rtol=1e-6)
