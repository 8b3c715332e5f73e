"""What trained a run is known from its record, and a warning where that differs from what trained the baseline."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from worlds import world

from diversity_spectra import jobs
from diversity_spectra.cli import main
from diversity_spectra.compare.job import Gather, Run
from diversity_spectra.compare.places import apart
from diversity_spectra.files import sha256
from diversity_spectra.jobs import canonical
from diversity_spectra.report.material import Material
from diversity_spectra.report.sections.training import warnings

PLACE = {"device": "cpu", "machine": "Xeon", "torch": "2.15.0"}


def test_what_trained_a_run_is_in_the_table_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    summary = {"layers": ["fc"], "kappas": {"fc": 0.9}, "kappa": 0.9, "dropout_places": []}
    records = [
        {"device": "cpu", "machine": "Xeon", "packages": {"torch": "2.15.0"}, "startup": 1.5},
        {"device": "NVIDIA H100", "packages": {"torch": "2.15.0"}, "startup": 0.0},
        {},
    ]
    runs = []
    for seed, record in enumerate(records):
        folders = [Path(f"{stage}/seed-{seed}") for stage in ("finetune", "evaluate", "spectra")]
        for folder in folders:
            folder.mkdir(parents=True)
        (folders[0] / "run.json").write_text(json.dumps(summary))
        outputs = {"run.json": sha256(folders[0] / "run.json")}
        (folders[0] / "spec.json").write_text(json.dumps({**record, "outputs": outputs}))
        pd.DataFrame({"set": ["test"], "accuracy": [0.5]}).to_parquet(folders[1] / "metrics.parquet")
        pd.DataFrame({"layer": ["fc"], "matrix": ["W"]}).to_parquet(folders[2] / "rows.parquet")
        finetune, evaluate, spectra = map(str, folders)
        runs.append(
            Run(model="mlp", condition="baseline", seed=seed, finetune=finetune, evaluate=evaluate, spectra=spectra)
        )
    assert main(["gather", "--job", canonical(Gather(runs=runs).spec), "--out", "out"]) == 0
    table = pd.read_parquet("out/runs.parquet")
    assert table[[*PLACE]].to_numpy().tolist() == [
        ["cpu", "Xeon", "2.15.0"],
        ["NVIDIA H100", "", "2.15.0"],
        ["", "", ""],
    ]


def test_the_processor_is_in_a_record_and_in_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(model="mlp", condition="baseline", seed=0, finetune="a", evaluate="b", spectra="c")
    here = Gather(runs=[run])
    monkeypatch.setattr(jobs, "processor", lambda: "another")
    there = Gather(runs=[run])
    assert here.key == there.key and here.out == there.out and there.spec["machine"] == "another"


def test_conditions_made_elsewhere_than_the_baseline() -> None:
    rows = [("baseline", "cpu", "Xeon"), ("baseline", "cpu", "EPYC"), ("same", "cpu", "EPYC"), ("same", "GPU", "Arm")]
    rows += [("other", "GPU", "EPYC"), ("other", "GPU", "Arm"), ("unknown", "", "")]
    runs = pd.DataFrame(rows, columns=["condition", "device", "machine"])
    assert apart(runs, "baseline") == {"device": ["other"]}
    assert apart(runs.drop(columns=["device"]), "baseline") == {}
    assert apart(runs[runs["condition"] != "baseline"], "baseline") == {}


def test_conditions_made_elsewhere_are_told_first() -> None:
    tables = world("supported", seeds=2, baseline_runs=4)
    runs = tables["runs"].assign(**PLACE)
    assert not warnings(Material({**tables, "runs": runs}))
    runs.loc[runs["condition"] == "dropout-0.5", "machine"] = "EPYC"
    (said,) = warnings(Material({**tables, "runs": runs}))
    assert (
        "no run of dropout 0.5 was made with the processor of a baseline run (EPYC, where the baseline has Xeon)"
        in said
    )
    runs.loc[(runs["condition"] == "dropout-0.5") & (runs["seed"] == 0), "machine"] = "Xeon"
    assert not warnings(Material({**tables, "runs": runs}))
    runs.loc[runs["condition"] != "baseline", "torch"] = "2.14.0"
    (said,) = warnings(Material({**tables, "runs": runs}))
    assert "no run of 20 of its conditions" in said and "version of torch" in said
