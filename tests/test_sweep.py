"""Sweeps: what a sweep file says, which jobs its experiments share, and the report over all of them.

Long because all of it looks at one pair of finished experiments.
"""

from __future__ import annotations

import copy
import html
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
import yaml
from conftest import ROOT, Checkout, copy_checkout, would_run
from test_config_fuzz import mutate
from test_report import FAST, Visible
from worlds import world

from diversity_spectra.cli import main
from diversity_spectra.compare.study import compare
from diversity_spectra.config import ConfigError, experiments, parse, read_yaml
from diversity_spectra.config.experiments import overlay
from diversity_spectra.errors import UserError
from diversity_spectra.planning.plan import plan
from diversity_spectra.planning.steps import Work
from diversity_spectra.report import style
from diversity_spectra.report.style import Palette
from diversity_spectra.sweep import COMBINED, TABLES
from diversity_spectra.sweep.combine import combined, gains, read, shared_runs
from diversity_spectra.sweep.figures import FIGURES
from diversity_spectra.sweep.job import Told
from diversity_spectra.tables import write_table

SMALLEST = "tests/configs/sweep.yaml"
TINY = read_yaml(ROOT / "tests/configs/tiny.yaml")
MORE_SEEDS = {"models": {"mlp": {"seeds": 3, "baseline_runs": 6}}}


def sweep(**variations: dict) -> dict:
    """A sweep of variations of the tiny experiment."""
    shared = {key: value for key, value in copy.deepcopy(TINY).items() if key != "experiment"}
    return {"sweep": "all", "experiments": variations, **shared}


def planned(**variations: dict) -> Work:
    return Work(experiments.parse(sweep(**variations)))


def count(made: Work, *stages: str) -> list[int]:
    return [len(made.of_kind(stage)) for stage in stages]


# ---------------------------------------------------------------- laying one mapping over another


@pytest.mark.parametrize(
    ("base", "changes", "expected"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}, {"a": {"b": 1, "c": 3}, "d": 4}),
        ({"rates": [0.1, 0.2]}, {"rates": [0.3]}, {"rates": [0.3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"data": {"kind": "digits", "n": 1}}, {"data": {"kind": "folder"}}, {"data": {"kind": "folder"}}),
        ({"data": {"kind": "digits", "n": 1}}, {"data": {"n": 2}}, {"data": {"kind": "digits", "n": 2}}),
        (
            {"models": [{"name": "a", "lr": 1}, {"name": "b", "lr": 1}]},
            {"models": {"b": {"lr": 2}, "c": {"lr": 3}}},
            {"models": [{"name": "a", "lr": 1}, {"name": "b", "lr": 2}, {"name": "c", "lr": 3}]},
        ),
        ({"models": [{"name": "a"}]}, {"models": [{"name": "b"}]}, {"models": [{"name": "b"}]}),
    ],
)
def test_overlay(base: dict, changes: dict, expected: dict) -> None:
    before = copy.deepcopy((base, changes))
    assert overlay(base, changes) == expected
    assert (base, changes) == before


# ---------------------------------------------------------------- reading


def test_an_experiment_is_a_sweep_of_one_without_a_name() -> None:
    made = experiments.parse(TINY)
    assert made.configs == (parse(TINY),)
    assert made.sweep is None and made.name == "tiny"
    assert not Work(made).of_kind("sweep")


def test_experiments_start_from_files_beside_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**TINY, "copies": 3, "execution": {"threads": 9}}))
    values = {
        "sweep": "all", "base": "base.yaml", "seed": 5, "execution": {"threads": 2},
        "experiments": {"a": None, "b": {"copies": 4}, "c": {"config": "other.yaml"}, "d": {"config": "other.yaml", "seed": 6}},
    }  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(values))
    made = experiments.load(tmp_path / "sweep.yaml")
    found = {config.experiment: (config.seed, config.copies, config.execution.threads) for config in made.configs}
    assert found == {"a": (5, 2, 2), "b": (5, 4, 2), "c": (5, 3, 2), "d": (6, 3, 2)}
    assert made.execution.threads == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"experiments": {"a": {"copies": 0}, "b": {}}}, "experiments.a.copies: 0 is not allowed"),
        (
            {"experiments": {"a": {"data": {"train_per_clas": 3}}}},
            "experiments.a.data.train_per_clas: unknown key; did",
        ),
        ({"experiments": {"a": {"models": {"mlp": {"lr": "fast"}}}}}, "experiments.a.models[1].lr: 'fast'"),
        ({"copies": 0, "experiments": {"a": {}, "b": {}}}, "experiments.*.copies: 0 is not allowed"),
        ({"experiments": {}}, "experiments: {} is not allowed"),
        ({"experiments": {"a": 3}}, "experiments.a: 3 is not allowed"),
        ({"experiments": {"../a": {}}}, "'../a' is not allowed"),
        ({"experiments": {"cache": {}}}, "'cache' is taken"),
        ({"experiments": {"all": {}}}, "would both be kept in results/all"),
        ({"experiments": {"a": {}, "A": {}}}, "'a' and 'A' would both be kept"),
        ({"experiments": {"a": {"experiment": "b"}}}, "experiments.a: `experiment` is not needed"),
        ({"experiments": {"a": {"execution": {"threads": 2}}}}, "experiments.a: `execution` holds for the whole sweep"),
        ({"experiments": {"a": {"config": "no.yaml"}}}, "experiments.a.config: no.yaml: no such file"),
        ({"experiment": "tiny"}, "`experiment` has no place in a sweep"),
        ({"base": "no.yaml"}, "base: no.yaml: no such file"),
        ({"bse": "a.yaml"}, "unknown key 'bse'; did you mean 'base'?"),
        ({"base": 3}, "base: 3 is not allowed"),
        ({"sweep": "../away"}, "sweep: '../away' is not allowed"),
        ({"report": {"palette": "pink"}}, "report.palette: 'pink' is not allowed"),
    ],
)
def test_mistakes_are_named(change: dict, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        experiments.parse({**sweep(a={}), **change}, source="my.yaml")
    lines = str(raised.value).splitlines()
    assert any(expected in line for line in lines), lines
    assert all(line.startswith("my.yaml: ") for line in lines)


def test_every_mistake_has_a_line_of_its_own() -> None:
    with pytest.raises(ConfigError) as raised:
        experiments.parse(sweep(a={"copies": 0, "seed": -1}, b={"copies": 0}, c={}), source="my.yaml")
    told = sorted(line.split(" is ")[0] for line in str(raised.value).splitlines())
    assert told == [
        "my.yaml: experiments.a.copies: 0",
        "my.yaml: experiments.a.seed: -1",
        "my.yaml: experiments.b.copies: 0",
    ]


def test_a_sweep_does_not_start_from_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(sweep(a={})))
    with pytest.raises(ConfigError, match="is a sweep itself"):
        experiments.parse({"sweep": "all", "base": "base.yaml", "experiments": {"a": {}}}, folder=tmp_path)


def test_a_missing_file_is_told_with_its_experiment() -> None:
    with pytest.raises(UserError, match=r"^experiments.b: data.path: nowhere: no such file or folder$"):
        planned(a={}, b={"data": {"kind": "image_folder", "path": "nowhere"}, "ood": []})


@pytest.mark.parametrize(
    "command", [["diversity-spectra", "check"], ["diversity-spectra", "plan"], ["snakemake", "-n"]]
)
def test_a_bad_sweep_ends_without_traceback(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(sweep(a={"copies": 0}, b={})))
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [program, *command[1:], "--configfile", tmp_path / "bad.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    assert "experiments.a.copies: 0 is not allowed" in done.stderr


def outcome(path: Path) -> str:
    """`planned` or `refused`; anything else is an error of the program and passes through."""
    try:
        made = Work(experiments.load(path))
    except ConfigError as error:
        assert all(line.startswith(f"{path}: ") for line in str(error).splitlines()), str(error)
        return "refused"
    except UserError as error:
        assert "\n" not in str(error)
        return "refused"
    for job in made.jobs.values():
        assert job.out.startswith("results/") and ".." not in Path(job.out).parts, job.out
    return "planned"


def test_mutants_are_planned_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dice = random.Random(0)
    found = Counter()
    for _ in range(150):
        mutant = mutate(sweep(a={"copies": 3}, b=copy.deepcopy(MORE_SEEDS)), dice)
        Path("mutant.yaml").write_text(yaml.dump(mutant, allow_unicode=True), encoding="utf-8")
        found[outcome(Path("mutant.yaml"))] += 1
    assert min(found["planned"], found["refused"]) > 20, found


@pytest.mark.parametrize(
    "text",
    [
        "sweep: a\nexperiments: &e {x: *e}\n",
        "sweep: a\nmodels: &m {name: *m}\nexperiments: {x: {models: *m}}\n",
        "sweep: a\nbase: .\nexperiments: {x: {}}\n",
        "sweep: a\nbase: trick.yaml\nexperiments: {x: {}}\n",
        "sweep: [a]\nexperiments: [x]\n",
        "experiments:\n",
        "1: 2\nsweep: a\nexperiments: {x: {}}\n",
    ],
)
def test_tricks_of_yaml_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trick.yaml"
    path.write_text(text)
    assert outcome(path) == "refused"


# ---------------------------------------------------------------- planning


def test_more_seeds_share_the_data_and_the_runs() -> None:
    one, two = planned(a={}), planned(a={}, b=MORE_SEEDS)
    shared = ("data", "generator", "shard", "generate", "augment", "diversity", "pretrained", "finetune", "evaluate")
    assert count(one, *shared) == count(two, *shared)
    assert count(two, "compare", "report", "sweep") == [2, 2, 1]


def test_runs_of_a_shared_job_are_made_once_and_all() -> None:
    """The experiment with most seeds decides on the blocks: no two rules may make the same file."""
    made = planned(a={}, b=MORE_SEEDS, c={"models": {"mlp": {"seeds_per_job": 3}}})
    targets = [folder for step in made.steps for folder in step.results]
    assert len(targets) == len(set(targets))
    seeds = Counter()
    for step in made.steps:
        if step.job.kind == "finetune" and step.job.name.startswith("mlp/"):
            seeds[step.job.name.removeprefix("mlp/")] += len(step.seeds)
    assert seeds.pop("baseline") == 6 and set(seeds.values()) == {3}


def test_other_data_share_nothing_downstream() -> None:
    made = planned(a={}, b={"data": {"train_per_class": 11}})
    alone = [Work(experiments.parse(sweep(**{name: v}))) for name, v in
             {"a": {}, "b": {"data": {"train_per_class": 11}}}.items()]  # fmt: skip
    stages = (
        "data",
        "generator",
        "shard",
        "generate",
        "augment",
        "diversity",
        "finetune",
        "evaluate",
        "spectra",
        "gather",
    )
    assert count(made, *stages) == [sum(pair) for pair in zip(*(count(one, *stages) for one in alone), strict=True)]
    # The pretrained weights come from a package and not from the data.
    assert count(made, "pretrained") == [1]


def test_an_experiment_of_a_sweep_is_the_one_that_stands_alone() -> None:
    alone = plan(parse(TINY))
    made = planned(tiny={}, b=MORE_SEEDS)
    assert {job.out for job in alone.jobs} <= set(made.jobs)


def test_the_sweep_follows_the_tables_and_its_look_alone() -> None:
    def key(**changes: object) -> str:
        values = {**sweep(a={}, b=MORE_SEEDS), **changes}
        return Work(experiments.parse(values)).of_kind("sweep")[0].key

    assert key() == key(execution={"threads": 3})
    assert len({key(), key(seed=7), key(report={"palette": "deep"}), key(compare={"bootstrap": 60})}) == 4


def test_planning_a_sweep_imports_nothing_heavy() -> None:
    code = (
        "import sys; from diversity_spectra.planning import check, show, why, start; import diversity_spectra.sweep;"
        f"show.describe(start.plan(['{SMALLEST}'], {{}}, ()));"
        "heavy = {'torch','torchvision','timm','seaborn','matplotlib','pandas','scipy','numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# ---------------------------------------------------------------- tables and page


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Tables of two simulated experiments; in the second one nothing does anything, and it has no weight decay."""
    folder = tmp_path_factory.mktemp("worlds")
    found = []
    for name, models in (("supported", ("mlp", "cnn")), ("inconclusive", ("mlp",))):
        tables = world(name, seeds=3, baseline_runs=6, models=models)
        if name == "inconclusive":
            known = ~tables["conditions"]["condition"].str.contains("weight_decay")
            names = tables["conditions"].loc[known, "condition"]
            tables = {k: t[t["condition"].isin(names)] if "condition" in t else t for k, t in tables.items()}
        for kind, table in {**tables, **compare(tables, FAST)}.items():
            write_table(folder / name / "tables" / f"{kind}.parquet", table)
        found.append(folder / name / "tables")
    return found


def test_tables_stand_together(folders: list[Path]) -> None:
    parts = [read(Told(experiment=folder.parent.name), folder, Palette(), "") for folder in folders]
    tables = combined(parts)
    assert set(tables) == set(TABLES)
    for name in COMBINED:
        rows = [len(pd.read_parquet(folder / f"{name}.parquet")) if name != "quality" else 0 for folder in folders]
        assert len(tables[name]) == sum(rows), name
        assert tables[name].columns[0] == "experiment"
    assert list(tables["claims"].groupby("experiment", sort=False).size()) == [10, 5]


def test_gains_are_means_over_the_conditions_of_a_family(folders: list[Path]) -> None:
    part = read(Told(experiment="a"), folders[0], Palette(), "")
    table = gains(part.material).set_index(["model", "family", "benefit"])
    metric = part.material.table("metric", "mlp")
    for family in ("dropout", "augmentation", "synthetic"):
        own = metric[metric["family"] == family]
        row = table.loc[("mlp", family, "ood_accuracy")]
        assert row["gain"] == pytest.approx(own["ood_accuracy_gain"].mean())
        assert row["low"] < row["gain"] < row["high"]
        assert row["conditions"] == len(own) and row["n"] == own["n"].sum() + 6
    # One condition alone has the interval that stage compare gives it.
    lone = metric[metric["family"] == "combinations"].iloc[0]
    row = table.loc[("mlp", "combinations", "id_accuracy")]
    assert (row["low"], row["high"]) == pytest.approx((lone["id_accuracy_gain_low"], lone["id_accuracy_gain_high"]))


@pytest.mark.parametrize("start", ["an-experiment-of-", "an-experiment-with-a-name-as-long-as-names-may-be-"])
def test_no_head_of_the_verdicts_lies_on_another(start: str, folders: list[Path]) -> None:
    parts = [read(Told(experiment=start + folder.parent.name), folder, Palette(), "") for folder in folders]
    long = start.replace("experiment", "network")
    for part in parts:
        part.material.tables.update({k: t.replace("cnn", long) for k, t in part.material.tables.items()})
    drawn = next(figure for figure in FIGURES if figure.kind == "verdicts")
    with mpl.rc_context(style.RC):
        figure = drawn.draw(combined(parts), Palette(), "95 %").figure
        figure.draw_without_rendering()
    heads = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert len(heads) == 7 and all(left.x1 < right.x0 for left, right in itertools.pairwise(heads))


def test_shared_runs_are_counted() -> None:
    runs = pd.DataFrame({"experiment": ["a", "a", "b", "b"], "folder": ["x", "y", "x", "z"]})
    assert shared_runs(runs) == {"a": 1, "b": 1}


def test_the_page_has_every_verdict_and_needs_nothing_but_itself(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "both"
    assert main(["sweep", "--tables", *map(str, folders), "--out", str(out)]) == 0
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(["sweep", "--tables", *map(str, folders), "--out", str(out)]) == 0
    assert first == {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    text = (out / "report.html").read_text()
    parser = Visible()
    parser.feed(text)
    assert not parser.open and "script" not in parser.tags
    assert len(parser.images) == len(FIGURES)
    links = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', text)
    assert links and all(
        (out / link).resolve().parent == folder.parent for link, folder in zip(links, folders, strict=False)
    )
    claims = pd.read_parquet(out / "tables/claims.parquet")
    pills = Counter(re.findall(r'<td><span class="pill (\w+)">', text))
    assert pills == Counter(claims["verdict"])
    assert "supported · cnn" in text and "inconclusive · mlp" in text
    words = re.sub(r"<[^>]*>", " ", text.split("</style>")[1]).lower().split()
    assert "nan" not in words


def test_what_cannot_be_put_together_is_told(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["sweep", "--tables", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no table runs, conditions, claims" in capsys.readouterr().err
    assert main(["sweep", "--tables", str(folders[0]), str(folders[0]), "--out", str(tmp_path / "out")]) == 2
    assert "two experiments have the same name" in capsys.readouterr().err
    assert main(["sweep"]) == 2


def test_gaps_are_named_and_break_nothing(folders: list[Path], tmp_path: Path) -> None:
    """An experiment with a baseline and nothing else, next to a whole one and alone."""
    tables = world("inconclusive", seeds=2, baseline_runs=4)
    tables = {k: t[t["condition"] == "baseline"] if "condition" in t else t for k, t in tables.items()}
    for kind, table in {**tables, **compare(tables, FAST)}.items():
        write_table(tmp_path / "bare" / "tables" / f"{kind}.csv", table)
    bare = str(tmp_path / "bare" / "tables")
    assert main(["sweep", "--tables", bare, str(folders[0]), "--out", str(tmp_path / "both")]) == 0
    assert main(["sweep", "--tables", bare, "--out", str(tmp_path / "alone")]) == 0
    text = (tmp_path / "alone" / "report.html").read_text()
    assert "No condition could be compared with the baseline" in text
    assert "None was run." in text
    assert not re.search(r"in 1\.|in 1 of 1 network", text)
    tables = world("supported", seeds=1, baseline_runs=1)
    for kind, table in {**tables, **compare(tables, FAST)}.items():
        write_table(tmp_path / "single" / "tables" / f"{kind}.csv", table)
    assert main(["sweep", "--tables", str(tmp_path / "single" / "tables"), "--out", str(tmp_path / "one")]) == 0
    assert "None could be tested." in (tmp_path / "one" / "report.html").read_text()


# ---------------------------------------------------------------- the workflow


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the smallest sweep has run to its end."""
    checkout = copy_checkout(tmp_path_factory.mktemp("swept"))
    checkout.snakemake("--cores", "2", config=SMALLEST)
    return checkout


@pytest.mark.workflow
def test_a_sweep_runs_as_one_workflow(swept: Checkout) -> None:
    results = swept.folder / "results"
    for name in ("few_seeds", "more_seeds", "seeds"):
        assert "<html" in (results / name / "report.html").read_text()[:500]
    for name in TABLES:
        table = pd.read_parquet(results / "seeds/tables" / f"{name}.parquet")
        assert table.columns[0] == "experiment" and (results / "seeds/tables" / f"{name}.csv").exists()
        if name in COMBINED:
            parts = [
                pd.read_parquet(results / part / "tables" / f"{name}.parquet") for part in ("few_seeds", "more_seeds")
            ]
            assert len(table) == sum(map(len, parts)), name
    runs = pd.read_parquet(results / "seeds/tables/runs.parquet")
    assert list(runs.groupby("experiment", sort=False).size()) == [2 + 2 * 1, 4 + 2 * 2]
    # The runs that both have are the same files.
    assert runs["folder"].nunique() == 4 + 2 * 2
    for figure in FIGURES:
        assert (results / "seeds/figures" / f"{figure.name}.png").stat().st_size > 1000
    page = (results / "seeds/report.html").read_text()
    assert 'href="../few_seeds/report.html"' in page and "embedded MNIST digits" in page
    facts = json.loads((results / "seeds/spec.json").read_text())["figures"]
    assert [(fact["name"], fact["title"]) for fact in facts] == [(figure.name, figure.title) for figure in FIGURES]
    assert all(fact["caption"] in html.unescape(page) for fact in facts)
    assert "Some experiments share runs" in page


@pytest.mark.workflow
def test_nothing_changed_is_nothing_to_do_and_an_experiment_alone_is_done(swept: Checkout) -> None:
    assert would_run(swept, SMALLEST) == {}
    values = yaml.safe_load((ROOT / SMALLEST).read_text())
    alone = {key: value for key, value in values.items() if key not in ("sweep", "experiments")}
    (swept.folder / "alone.yaml").write_text(yaml.safe_dump({**alone, "experiment": "few_seeds"}))
    assert would_run(swept, "alone.yaml") == {}


@pytest.mark.workflow
def test_a_third_experiment_makes_its_own_jobs_and_the_combination(swept: Checkout) -> None:
    values = yaml.safe_load((ROOT / SMALLEST).read_text())
    values["experiments"]["stronger"] = {"models": {"mlp": {"conditions": {"dropout": {"rates": [0.5, 0.8]}}}}}
    (swept.folder / "third.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    own = {"finetune": 1, "evaluate": 1, "spectra": 1, "gather": 1, "compare": 1, "report": 1}
    assert would_run(swept, "third.yaml") == {**own, "sweep": 1}


@pytest.mark.workflow
def test_the_look_of_a_sweep_draws_again_and_computes_nothing(swept: Checkout) -> None:
    values = yaml.safe_load((ROOT / SMALLEST).read_text())
    values["report"] = {"dpi": 70}
    (swept.folder / "look.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert would_run(swept, "look.yaml") == {"report": 2, "sweep": 1}


@pytest.mark.workflow
def test_a_job_of_a_sweep_can_be_pasted(swept: Checkout, tmp_path: Path) -> None:
    before = (swept.folder / "results/seeds/report.html").read_text()
    shutil.rmtree(swept.folder / "results/seeds/figures")
    swept.run("diversity-spectra", "sweep", "--job", "results/seeds/spec.json")
    assert (swept.folder / "results/seeds/report.html").read_text() == before
    assert would_run(swept, SMALLEST) == {}
