"""The commands `spectra`, `diff` and `plot-esd` as people call them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from diversity_spectra import cli
from diversity_spectra.compare.collect import _analysed, find, runs_table
from diversity_spectra.jobs import canonical
from diversity_spectra.spectra.job import Analyse
from diversity_spectra.spectra.plot import read_row


def matrix(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> str:
    save_file({"a.weight": matrix(0, 20, 16), "b.weight": matrix(1, 12, 16)}, tmp_path / "m.safetensors")
    return str(tmp_path / "m.safetensors")


def test_a_job_is_made_elsewhere_and_lets_no_weights_go(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs/seed-0"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"kappas": {}}')
    (run / "model.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes())
    job = ["spectra", "--job", canonical(Analyse(runs="runs").spec), "--keep-weights", "none"]
    assert cli.main(job) == cli.main([*job, "--seeds", "0", "--out", "a", "b"]) == 2
    assert capsys.readouterr().err.count("error: --job: name the runs with --seeds") == 2
    assert cli.main([*job, "--seeds", "0", "--out", "elsewhere"]) == 0
    assert len(pd.read_parquet("elsewhere/seed-0/rows.parquet")) == 2
    assert (run / "model.safetensors").exists()


def test_a_difference_is_refused_before_the_work(model, tmp_path, monkeypatch, capsys):
    assert cli.main(["diff", model, model, "--threads", "0"]) == 2
    monkeypatch.setattr("diversity_spectra.spectra.table.analyse", None)
    assert cli.main(["diff", model, model, "--out", str(tmp_path / "x.txt")]) == 2
    assert cli.main(["diff", model, model, "--out", f"{model}/x.csv"]) == 1
    told = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["error"] * 3


def test_every_file_of_several_state_dicts_has_an_option_for_its_own(tmp_path, capsys):
    first, second = ({"fc.weight": torch.from_numpy(matrix(seed, 20, 16))} for seed in (0, 1))
    torch.save({"encoder": first, "decoder": second}, tmp_path / "m.pt")
    runs = tmp_path / "runs"
    (runs / "baseline").mkdir(parents=True)
    torch.save({"a": first, "b": second}, runs / "baseline/0.pt")
    model, rows = str(tmp_path / "m.pt"), str(tmp_path / "rows.csv")
    spectra = ["spectra", model, "--key", "encoder", "--reference", model, "--out", rows]
    collect = ["collect", str(runs), "--pattern", "{condition}/{seed}.pt", "--key", "a", "--reference", model]
    diff = ["diff", model, model, "--out", rows]
    for command in (spectra, [*collect, "--out", str(tmp_path / "out")], diff):
        assert cli.main(command) == 2
    assert capsys.readouterr().err.count("name one with --key, of a reference with --reference-key") == 3
    assert cli.main([*spectra[:4], "--reference-key", "decoder"]) == cli.main([*diff, "--key", *"abc"]) == 2
    change = np.square(matrix(0, 20, 16) - matrix(1, 20, 16)).sum()
    assert cli.main([*spectra, "--reference-key", "decoder"]) == 0
    assert pd.read_csv(rows).set_index("matrix").loc["dW", "norm"] == pytest.approx(change, rel=1e-5)
    arguments = cli.parse([*collect, "--out", str(tmp_path / "out"), "--reference-key", "decoder"])
    found = find(runs, arguments.pattern)
    table = _analysed(found, runs_table(found, None), arguments).set_index("matrix")
    assert table.loc["dW", "norm"] == pytest.approx(change, rel=1e-5)
    for keys, changed in ((["encoder", "decoder"], True), (["encoder"], False)):
        assert cli.main([*diff, "--key", *keys]) == 0
        assert bool(pd.read_csv(rows)["relative_change"][0]) == changed


def test_names_of_layers_that_look_like_numbers_are_names(tmp_path):
    save_file({f"0.{name}.weight": matrix(name, 20, 16) for name in (1, 10)}, tmp_path / "m.safetensors")
    rows, eigenvalues = str(tmp_path / "rows.csv"), str(tmp_path / "e.npz")
    assert cli.main(["spectra", str(tmp_path / "m.safetensors"), "--out", rows, "--eigenvalues", eigenvalues]) == 0
    assert read_row(tmp_path / "rows.csv", "0.10", "W")["layer"] == "0.10"
