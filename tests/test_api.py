"""The interface in Python, its page and notebook, and experiments made of other people's checkpoints."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, Checkout
from safetensors.torch import save_file
from torch import nn

from diversity_spectra.api import spectra, vendi
from diversity_spectra.cli import main, parse
from diversity_spectra.compare.collect import depths, family_of
from diversity_spectra.compare.job import compared_with
from diversity_spectra.errors import UserError

matplotlib.use("Agg")


def network(dropout: float = 0.0) -> nn.Sequential:
    dense = [nn.Linear(64, 48), nn.ReLU(), nn.Dropout(dropout), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10)]
    return nn.Sequential(*dense)


def test_a_module_its_state_and_its_file_have_the_same_spectra(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(16, 32, 3, groups=2), nn.Flatten(), nn.Linear(64, 48))
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    numbers = ["alpha", "stable_rank", "entropy", "num_evals"]
    live, state = spectra(module), spectra(module.state_dict())
    stored = spectra(tmp_path / "m.safetensors", include=("2",))
    assert live.set_index("layer").loc["2", numbers].equals(stored.set_index("layer").loc["2", numbers])
    # A file does not say how many groups a convolution has; the module does.
    assert live.set_index("layer").loc["0", ["groups", "groups_source"]].tolist() == [2, "given"]
    assert state.set_index("layer").loc["0", "groups_source"] == "inferred"
    assert spectra(module[0]).set_index("layer").loc["weight", ["groups", "groups_source"]].tolist() == [2, "given"]
    assert spectra({7: np.eye(9)})["layer"].tolist() == ["7"]
    with pytest.raises(UserError, match="not int"):
        spectra(3)
    with pytest.raises(UserError, match="unexpected keyword argument 'pattern'"):
        spectra(module, pattern="*")


def test_a_wrapped_module_has_the_names_of_its_own() -> None:
    """torch.compile puts `_orig_mod.` before all names, DDP `module.`; a file loses them as well."""
    module = nn.Sequential(nn.Conv2d(16, 32, 3, groups=2), nn.Flatten(), nn.Linear(64, 48))
    plain = spectra(module)
    for wrapped in (torch.compile(module), nn.DataParallel(module), nn.DataParallel(torch.compile(module))):
        assert spectra(wrapped).equals(plain)
        assert spectra(wrapped.state_dict())["layer"].equals(plain["layer"])
        assert spectra(module, wrapped)["layer"].equals(spectra(module, module)["layer"])
    assert spectra(torch.compile(module[0])).equals(spectra(module[0]))
    other = nn.ModuleDict({"module": module[2], "other": module[2]})
    assert spectra(other)["layer"].iloc[0] == "module"


def test_bfloat16_and_arrays_are_read_in_memory() -> None:
    weight = torch.randn(40, 30, generator=torch.manual_seed(0)).bfloat16()
    rows = [spectra({"fc.weight": value}) for value in (weight, weight.double().numpy())]
    assert np.allclose(rows[0]["alpha"].astype(float), rows[1]["alpha"].astype(float), rtol=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what is not there")
def test_a_gpu_that_is_not_there_is_said_to_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match="device cuda: torch finds no GPU here; take cpu"):
        spectra(network(), device="cuda")
    save_file(network().state_dict(), tmp_path / "m.safetensors")
    assert main(["spectra", str(tmp_path / "m.safetensors"), "--device", "cuda"]) == 2
    assert capsys.readouterr().err.count("torch finds no GPU") == 1


def test_vendi_counts_what_is_different() -> None:
    apart = np.eye(8).repeat(2, axis=0)  # each direction twice
    table = vendi(apart, orders=[1, 2], per_class=16, subsamples=1).set_index(["order", "label"])["score"]
    assert table["1", "overall"] == pytest.approx(8) and table["2", "overall"] == pytest.approx(8)
    with pytest.raises(UserError, match="float64"):
        vendi(np.zeros((3, 4, 4)))


class Tracker:
    """Takes what TensorBoard's writer does, and keeps the last loss of each run."""

    last: ClassVar[dict[str, float]] = {}

    def __init__(self, folder: str):
        self.folder = folder

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_scalar(self, name: str, value: float, step: int) -> None:
        assert step == int(step) and value == float(value)
        if name == "loss":
            self.last[self.folder] = value


def test_the_page_and_the_notebook_run(finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layers = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32))
    for name in ("pretrained", "model"):
        state = {
            f"fc{index // 2 + 1}.{part}": value
            for index in (0, 2)
            for part, value in layers[index].state_dict().items()
        }
        save_file(state, f"{name}.safetensors")
        nn.init.normal_(layers[2].weight)
    shutil.copytree(finished.folder / "results/tiny/tables", "results/mine/tables")
    for name, target in (("cache", "cache"), ("digits", "tiny")):
        Path("results", name).symlink_to(finished.folder / "results" / target)
    tracker = SimpleNamespace(SummaryWriter=Tracker)  # the environment has no TensorBoard
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", tracker)
    session: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL):
        exec(block, session)
    assert Path("fc1.svg").stat().st_size > 1000
    assert set(session["scores"]["kernel"]) == {"pixel", "pixel_centred"}
    assert session["rows"]["alpha"].notna().any() and "warning" in session["theirs"]
    runs = session["tables"]["runs"]
    told = {(run.model, run.condition, str(run.seed)): run.train_loss for run in runs.itertuples()}
    last = {tuple(run.replace("seed-", "").split("/")[1:]): loss for run, loss in Tracker.last.items()}
    assert last == pytest.approx(told)
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        exec(block, {})
    assert Path("spectrum.png").stat().st_size > 1000
    session = {}
    for cell in json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), session)
    assert (session["trained"]["stable_rank"].median()) < session["noise"]["stable_rank"].median()


def test_commands_of_the_readme_are_parsed() -> None:
    """Each as it stands there: known subcommands and options, and all that they need."""
    text = (ROOT / "README.md").read_text() + (ROOT / "docs/python.md").read_text()
    lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("diversity-spectra")]
    assert {command[0] for command in commands} >= {"spectra", "diff", "diversity", "collect", "check", "plan"}
    assert all(parse(command).subcommand == command[0] for command in commands)


# ---------------------------------------------------------------- other people's runs


CONDITIONS = {"plain": 8, "dropout-0.5": 4, "wd-1": 4, "gaussian_noise-0.2": 4}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty checkpoints of a plain PyTorch loop at two steps each, and their accuracy in a CSV."""
    folder = tmp_path_factory.mktemp("foreign")
    torch.set_num_threads(1)  # matrices this small only wait for each other
    images = torch.rand(100, 64, generator=torch.manual_seed(1))
    labels, rows = images[:, :10].argmax(1), []
    for condition, seeds in CONDITIONS.items():
        strength = float([*condition.split("-"), "0"][1])
        (folder / condition).mkdir()
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = network(strength if condition.startswith("dropout") else 0.0)
            decay = strength if condition.startswith("wd") else 0.0
            optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=decay)
            for step in range(1, 21):
                noise = 0.2 * torch.randn(images.shape) if condition.startswith("gaussian") else 0.0
                loss = nn.functional.cross_entropy(model(images + noise), labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if step % 10 == 0:
                    torch.save(model.state_dict(), folder / condition / f"{seed}-{step}.pt")
            correct = (model.eval()(images).argmax(1) == labels).float().mean().item()
            rows.append({"condition": condition, "seed": seed, "accuracy": correct, "train_loss": loss.item()})
    pd.DataFrame(rows).to_csv(folder / "accuracy.csv", index=False)
    return folder


def test_checkpoints_of_another_training_become_a_report(foreign: Path, tmp_path: Path, capsys) -> None:
    options = '{"bootstrap": 50, "permutations": 50, "robustness": false}'
    command = ["collect", foreign, "--pattern", "{condition}/{seed}-{step}.pt", "--runs", foreign / "accuracy.csv"]
    assert main([*map(str, command), "--out", str(tmp_path), "--options", options]) == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    assert compared_with(tmp_path / "tables")["matrix"] == "W"
    tables = {path.stem: pd.read_parquet(path) for path in (tmp_path / "tables").glob("*.parquet")}
    assert tables["runs"].groupby("condition").size().to_dict() == CONDITIONS
    families = tables["conditions"].set_index("condition")["family"].to_dict()
    assert families == dict(zip(CONDITIONS, ("baseline", "dropout", "weight_decay", "augmentation"), strict=True))
    assert tables["runs"]["train_loss"].notna().all() and len(tables["evaluation"]) == 20
    assert set(tables["controls"]["family"]) == {"dropout", "weight_decay"}
    # The last step is compared; all are drawn.
    assert set(tables["trajectory"]["step"]) == {10, 20} and "step" not in tables["spectra"]
    ordered = tables["spectra"].query("matrix == 'W' and analysed").drop_duplicates("layer").sort_values("depth")
    assert ordered["layer"].tolist() == ["0", "3", "5"]
    page = (tmp_path / "report.html").read_text()
    assert "Spectra by family" in page and (tmp_path / "figures/trajectory.svg").exists()


def test_the_classifier_of_a_few_classes_is_the_last_layer_though_it_is_not_analysed(tmp_path: Path) -> None:
    for place, condition in enumerate(("baseline-0", "baseline-1", "dropout-0.1-0", "dropout-0.1-1")):
        torch.manual_seed(place)
        layers = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3))
        torch.save(layers.state_dict(), tmp_path / f"{condition}.pt")
    command = ["collect", str(tmp_path), "--pattern", "{condition}-{seed}.pt", "--out", str(tmp_path / "out")]
    assert main([*command, "--options", '{"bootstrap": 20, "permutations": 20, "robustness": false}']) == 0
    shifts = pd.read_parquet(tmp_path / "out/tables/layer_shifts.parquet")
    assert set(shifts["layer"]) == {"0", "1"} and not shifts["head"].any()


def test_shrinkage_by_decay_is_taken_out_of_the_change(foreign: Path, tmp_path: Path) -> None:
    """Weight decay stays a control: without the corrected change its runs would count for nothing. The page knows the level."""
    runs = pd.read_csv(foreign / "accuracy.csv")
    runs["kappa"] = np.where(runs["condition"] == "wd-1", (1 - 3e-3) ** 20, 1.0)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    command = ["collect", foreign, "--pattern", "{condition}/{seed}-{step}.pt", "--runs", tmp_path / "runs.csv"]
    command += ["--reference", foreign / "plain/0-10.pt", "--out", tmp_path / "out"]
    options = '{"bootstrap": 50, "permutations": 50, "robustness": false, "level": 0.1}'
    assert main([*map(str, command), "--options", options]) == 0
    spectra, controls = (pd.read_parquet(tmp_path / f"out/tables/{name}.parquet") for name in ("spectra", "controls"))
    assert set(spectra.query("matrix == 'dW_corrected'")["condition"]) == {"wd-1"}
    assert set(controls["family"]) == {"dropout", "weight_decay"} and (controls["note"] == "").all()
    assert "Intervals cover at least 90 %" in (tmp_path / "out/report.html").read_text()


def test_what_is_wrong_with_a_table_is_told_before_the_work(foreign: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "runs.csv").write_text("condition,seed,accuracy\nplain,99,0.5\n")
    command = ["collect", foreign, "--pattern", "{condition}/{seed}-20.pt", "--runs", tmp_path / "runs.csv"]
    assert main([*map(str, command), "--out", str(tmp_path / "out")]) == 2
    assert "1 rows without a checkpoint, the first: plain, seed 99" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--pattern", "{condition}.pt"], "{seed} is missing"),
        (["--pattern", "{condition}/{run}.pt"], "{run} is not known"),
        (["--pattern", "{condition}-{seed}.safetensors"], "no file below"),
        (["--pattern", "{condition}/{seed}-20.pt", "--baseline", "other"], "no condition is the baseline"),
        (["--pattern", "{condition}/{seed}-{seed}.pt"], "no file below"),
    ],
)
def test_what_does_not_fit_is_one_line(foreign: Path, tmp_path: Path, arguments: list, told: str, capsys) -> None:
    if "other" in arguments:
        shutil.copytree(foreign, tmp_path / "runs")
        (tmp_path / "runs/plain").rename(tmp_path / "runs/first")
        foreign = tmp_path / "runs"
    assert main(["collect", str(foreign), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1, error


@pytest.mark.parametrize(
    ("name", "family", "kind", "strength"),
    [
        ("plain", "baseline", "", None),
        ("weight_decay-1e-4", "weight_decay", "", 1e-4),
        ("wd_0.1", "weight_decay", "", 0.1),
        ("augmentation-rotation-15", "augmentation", "rotation", 15),
        ("augmentation-mine", "augmentation", "mine", None),
        ("synthetic-0.5", "synthetic", "added", 0.5),
        ("synthetic-replaced-0.5", "synthetic", "replaced", 0.5),
        ("steps-2x", "optimisation", "steps", 2),
        ("label_smoothing-0.1", "optimisation", "label_smoothing", 0.1),
        ("dropout-0.3+weight_decay-0.1", "combinations", "", None),
        ("dropout", "checkpoint", "", None),
        ("mine-3", "checkpoint", "", None),
    ],
)
def test_families_are_read_off_names(name: str, family: str, kind: str, strength: float | None) -> None:
    found = family_of(name)
    assert (found["family"], found["kind"]) == (family, kind)
    assert found["strength"] == strength if strength else np.isnan(found["strength"])


def test_layers_of_a_file_without_order_are_ordered_by_name() -> None:
    layers = ["fc", "layer10.conv", "layer2.conv", "conv1"]
    assert list(depths(layers, stored_in_order=False)) == ["conv1", "layer2.conv", "layer10.conv", "fc"]
    assert list(depths(layers, stored_in_order=True)) == layers
