"""Planning and provenance: which jobs an edit touches, worked out without running anything."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import pytest

from diversity_spectra import cli
from diversity_spectra.config import experiments, parse, read_yaml
from diversity_spectra.errors import UserError
from diversity_spectra.finetune.job import Training
from diversity_spectra.jobs import Job, canonical, digest
from diversity_spectra.jobs import parse as parse_job
from diversity_spectra.planning.plan import Plan, plan
from diversity_spectra.planning.start import asked_again
from diversity_spectra.planning.steps import Step, Work
from diversity_spectra.planning.why import explain
from diversity_spectra.settings import Absent
from diversity_spectra.stages import STAGES, kinds
from diversity_spectra.work import Sets

ROOT = Path(__file__).parent.parent
TINY = read_yaml(ROOT / "tests/configs/tiny.yaml")


def planned(**changes: object) -> Plan:
    return plan(parse({**copy.deepcopy(TINY), **changes}))


def results(made: Plan) -> set[tuple[str, str, str]]:
    """Every result of a plan, as (stage, name, place)."""
    return {(job.kind, job.name, job.out) for job in made.jobs}


def touched(before: Plan, after: Plan) -> set[tuple[str, str]]:
    return {(stage, name) for stage, name, _ in results(after) - results(before)}


def test_canonical_text_does_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": [1, 2]}) == canonical({"a": [1, 2], "b": 1})
    assert digest({"lr": 0.1, "decay": 0.2}) != digest({"lr": 0.2, "decay": 0.1})


def test_order_of_keys_touches_nothing() -> None:
    assert results(plan(parse(dict(reversed(TINY.items()))))) == results(planned())


def test_execution_touches_nothing() -> None:
    changed = planned(execution={"device": "cpu", "threads": 2, "generate_batch": 3, "save_every": 1.0})
    assert results(changed) == results(planned())


def test_forbidding_a_download_changes_no_job() -> None:
    fashion = {"kind": "torchvision", "name": "FashionMNIST", "train_per_class": 12, "pool_per_class": 10}
    ood = [{"kind": "torchvision", "name": "KMNIST"}]
    allowed, forbidden = (planned(data={**fashion, "download": download}, ood=ood) for download in (True, False))
    assert {job.out for job in allowed.of_kind("finetune")} == {job.out for job in forbidden.of_kind("finetune")}
    for made, download in ((allowed, True), (forbidden, False)):
        own = {job.source.download for job in made.of_kind("data") if job.name.startswith("FashionMNIST-")}
        assert own == {download}


def test_a_setting_that_came_later_counts_only_where_it_is_used() -> None:
    """`compile` and `ema` are such settings: at the value that stands for their absence a job has the key of before."""
    recipe = Training(steps=5, lr=1e-3)
    counted = recipe.identity({})
    assert not {"compile", "ema", "on_divergence"} & set(counted) and {"warmup", "dropout"} <= set(counted)
    assert recipe.model_copy(update={"ema": 0.9}).identity({}) == {**counted, "ema": 0.9}
    marks = [mark for mark in Training.model_fields["ema"].metadata if isinstance(mark, Absent)]
    assert [mark.value for mark in marks] == [0.0]


def test_trainings_on_images_that_are_made_when_they_are_read_are_another_kind_of_work() -> None:
    made = planned(execution={"materialise": "never"})
    kinds = {job.name: job.work(Sets({each.out: each for each in made.jobs})).kind for job in made.of_kind("finetune")}
    virtual = {name for name, kind in kinds.items() if kind.endswith(", images made when read")}
    augmented = {runs.finetune.name for runs in made.runs if runs.training_set != "plain"}
    assert virtual == augmented and augmented < set(kinds)


def test_tests_in_another_precision_train_nothing() -> None:
    models = [{**TINY["models"][0], "evaluation_precision": "tf32"}]
    changed = touched(planned(models=TINY["models"][:1]), planned(models=models))
    assert {stage for stage, _ in changed} == {"evaluate", "gather", "compare", "report"}


def test_a_default_that_changes_moves_the_key() -> None:
    """What counts is the value that is used, whether it was written or left out."""

    class Other(Training):
        warmup: float = 0.2

    assert Other(steps=5, lr=1e-3).identity({}) != Training(steps=5, lr=1e-3).identity({})


def test_a_job_is_what_its_file_says() -> None:
    for job in planned().jobs:
        again = parse_job([kinds()[job.kind]], json.loads(json.dumps(job.spec, sort_keys=True)), "--job")
        assert (again, again.key, again.out) == (job, job.key, job.out)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"settings": {"network": {"architecture": "mlp_smal"}}}, "settings.network.architecture: no network 'mlp_smal'"),
        ({"settings": {"network": {"architecture": "mlp_small"}, "nets": 3}}, "settings.nets: unknown key"),
        ({"inputs": {"train": 3}}, "inputs.train: 3 is not allowed"),
        ({"inputs": {}}, "inputs.train: missing"),
        ({"settings": {"network": {"architecture": "mlp_small"}, "training": {"steps": 5, "lr": "fast"}}}, "settings.training.lr: 'fast'"),
        ({"stage": "evaluate"}, "stage: 'evaluate' is not allowed here; allowed: finetune"),
        ({"out": None}, "lacks out"),
    ],
)  # fmt: skip
def test_a_job_with_a_wrong_key_is_one_line(change: dict, expected: str, capsys: pytest.CaptureFixture) -> None:
    job = {"settings": {"network": {"architecture": "mlp_small"}}, "inputs": {"train": "x"}, "out": "y", **change}
    job = {key: value for key, value in job.items() if value is not None}
    assert cli.main(["finetune", "train", "--seeds", "0", "--job", json.dumps(job)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --job") and expected in line


def test_every_kind_of_job_says_what_it_makes_and_what_it_takes() -> None:
    made = planned()
    found = {job.kind: job for job in made.jobs}
    assert set(found) | {"sweep", "choose"} == set(kinds())
    assert list(dict.fromkeys(kind.command.split()[0] for kind in kinds().values())) == list(STAGES)
    for kind in kinds().values():
        assert issubclass(kind, Job) and kind.__doc__ and (kind.makes or kind.kind == "generator")


def test_networks_of_one_recipe_share_their_runs() -> None:
    models = [dict(copy.deepcopy(TINY["models"][1]), name=name) for name in ("one", "other")]
    made = planned(models=models)
    assert {run.finetune.out for run in made.runs[: len(made.runs) // 2]} == {
        run.finetune.out for run in made.runs[len(made.runs) // 2 :]
    }
    assert len(made.runs) == 2 * len({run.finetune.out for run in made.runs})


def test_a_renamed_model_keeps_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = planned()
    for job in before.jobs:
        Path(job.out).mkdir(parents=True)
    renamed = copy.deepcopy(TINY["models"])
    renamed[1]["name"] = "small"
    there = {job.out for job in before.jobs}
    assert {job.kind for job in planned(models=renamed).jobs if job.out not in there} == {"gather", "compare", "report"}


def test_a_new_condition_touches_its_own_jobs_only() -> None:
    models = copy.deepcopy(TINY["models"])
    models[1]["conditions"]["dropout"]["rates"].append(0.1)
    stages = {stage for stage, _ in touched(planned(), planned(models=models))}
    names = {
        name for stage, name in touched(planned(), planned(models=models)) if stage in ("finetune", "augment", "data")
    }
    assert names == {"mlp/dropout-0.1"}
    assert stages == {"finetune", "evaluate", "spectra", "gather", "compare", "report"}


def test_a_new_seed_makes_no_new_folder() -> None:
    models = copy.deepcopy(TINY["models"])
    models[1]["baseline_runs"] = 6
    assert {stage for stage, _ in touched(planned(), planned(models=models))} == {"gather", "compare", "report"}


def test_swapped_values_are_noticed() -> None:
    models = copy.deepcopy(TINY["models"])
    models[1]["lr"], models[1]["warmup"] = 0.1, 0.001
    swapped = copy.deepcopy(models)
    swapped[1]["lr"], swapped[1]["warmup"] = 0.001, 0.1
    assert ("finetune", "mlp/baseline") in touched(planned(models=models), planned(models=swapped))


def test_generator_steps_touch_what_uses_synthetic_images() -> None:
    generator = {**TINY["generator"], "train_steps": 13}
    trained = {name for stage, name in touched(planned(), planned(generator=generator)) if stage == "finetune"}
    assert trained == {"mlp/synthetic-0.5"}


def test_the_words_of_a_caption_file_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model_index.json").write_text("{}")
    captions = tmp_path / "captions.txt"
    generator = {"kind": "text_to_image", "model": "model", "captions": str(captions)}
    with pytest.raises(UserError, match=r"captions\.txt: no such file"):
        planned(generator=generator)
    places = []
    for text in ("a {name}\n", "the {name}\n", "a {name}\n"):
        captions.write_text(text)
        places.append({job.out for job in planned(generator=generator).of_kind("generate")})
    assert places[0] != places[1] and places[0] == places[2]


def test_what_a_split_does_not_read_touches_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of test images of a data set that has test images; the place of a folder of images."""
    monkeypatch.chdir(tmp_path)
    for place in ("here/cat", "here/dog", "there/cat", "there/dog"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(6):
            (tmp_path / place / f"{number}.png").write_bytes(b"an image")
    own = {"ood": [], "diversity": {"per_class": 2}}
    folder = {"kind": "image_folder", "path": "here", "pool_per_class": 2}
    before = planned(data=folder, **own)
    assert touched(before, planned(data={**folder, "path": "there"}, **own)) <= {
        ("compare", "tiny"),
        ("report", "tiny"),
    }
    stages = {stage for stage, _ in touched(before, planned(data={**folder, "test_per_class": 9}, **own))}
    assert "finetune" not in stages and "evaluate" in stages
    digits = {**TINY["data"], "test_per_class": 11}
    assert "finetune" not in {stage for stage, _ in touched(planned(), planned(data=digits))}
    pool = {**TINY["data"], "pool_per_class": 13}
    assert touched(planned(), planned(data=pool)) == {
        ("data", "digits-pool"), ("data", "digits-test"), ("data", "test-gaussian_blur-3"), ("data", "ood-uci_digits"),
        *((stage, name) for stage, name, _ in results(planned()) if stage in ("evaluate", "gather", "compare", "report")),
        ("diversity", "synthetic"), ("diversity", "plain"),
    }  # fmt: skip


def test_diversity_is_scored_at_no_more_images_than_the_smallest_class_has(tmp_path: Path) -> None:
    folder = {"kind": "image_folder", "path": str(tmp_path), "test_fraction": 0.25, "pool_per_class": 1}
    for name, number in (("cat", 20), ("dog", 12)):
        (tmp_path / name).mkdir()
        for index in range(number):
            (tmp_path / name / f"{index}.png").write_bytes(b"an image")

    def notes(per_class: int) -> list[str]:
        made = planned(data=folder, ood=[], diversity={"per_class": per_class})
        assert {job.plain for job in made.of_kind("diversity")} == {made.training_sets["plain"]}, (
            "the stage knows the number"
        )
        return made.notes

    assert not notes(8)  # 12 less 3 to test on and 1 of the pool
    assert "diversity.per_class is 9, but the smallest class has 8 images" in notes(9)[0]
    (tmp_path / "ox").mkdir()
    with pytest.raises(UserError, match="class 'ox' has no images to train on; remove its folder"):
        notes(9)


def test_the_order_of_combined_augmentations_is_that_of_the_kinds() -> None:
    def combined(*kinds: tuple[str, float]) -> dict:
        models = copy.deepcopy(TINY["models"])
        models[1]["conditions"]["combinations"] = [{"augmentation": dict(kinds)}]
        return planned(models=models)

    one, other = ("rotation", 10.0), ("gaussian_noise", 0.1)
    assert touched(combined(one, other), combined(other, one)) <= {("report", "tiny")}


def test_the_look_of_the_report_touches_the_report_only() -> None:
    assert touched(planned(), planned(report={"palette": "deep"})) == {("report", "tiny")}


def test_two_experiments_share_everything_but_the_results() -> None:
    first, second = results(planned()), results(planned(experiment="other"))
    assert {stage for stage, _, _ in first - second} == {"compare", "report"}


def test_blocks_of_seeds_are_fixed() -> None:
    runs = next(run for run in planned().runs if run.condition.name == "baseline" and run.model.name == "mlp")
    assert runs.blocks == [(0, 1, 2, 3)]
    models = copy.deepcopy(TINY["models"])
    models[1]["seeds_per_job"] = 3
    runs = next(r for r in planned(models=models).runs if r.condition.name == "baseline" and r.model.name == "mlp")
    assert runs.blocks == [(0, 1, 2), (3,)]


def test_a_step_is_told_with_its_seeds() -> None:
    job = planned().of_kind("finetune")[0]
    told = [Step(job, seeds).told.rpartition(",")[2] for seeds in ((3,), (3, 4, 5))]
    assert told == [" seed 3", " seeds 3-5"] and Step(job).told == f"finetune {job.name}"


def test_a_key_is_worked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many seeds and readers a job has."""
    work_out, keys = Job.__dict__["key"].func, []
    counting = cached_property(lambda job: keys.append(job) or work_out(job))
    counting.__set_name__(Job, "key")
    monkeypatch.setattr(Job, "key", counting)
    monkeypatch.chdir(tmp_path)
    models = [{**model, "seeds": 50, "baseline_runs": 100, "seeds_per_job": 1} for model in TINY["models"]]
    work = Work(experiments.parse({**TINY, "models": models}))
    assert len(work.steps) > 1500 and len(keys) == len(work.jobs)


@pytest.mark.parametrize(
    ("options", "whole", "kinds_again"),
    [
        ("-n --cores 2", False, set()),
        ("-F", False, set(kinds())),
        ("--forceall", False, set(kinds())),
        ("-R finetune augment --cores 2", False, {"finetune", "augment"}),
        ("--forcerun=report", False, {"report"}),
        ("-nF", False, set(kinds())),
        ("-pnR report --cores 2", False, {"report"}),
        ("-kFj4", False, set(kinds())),
        ("-s Snakefile -c4", False, set()),
        ("-R results/x", False, set()),
        ("--report page.html", True, set(kinds())),
        ("--rulegraph", True, set(kinds())),
        ("--summary", True, set(kinds())),
    ],
)
def test_what_snakemake_is_asked_for_again(options: str, whole: bool, kinds_again: set[str]) -> None:
    assert asked_again(["snakemake", *options.split()]) == (whole, kinds_again)


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; from diversity_spectra.planning import orders, start, check, show, why;"
        "start.plan(['config.yaml'], {}, ()).steps;"
        "heavy = {'torch','torchvision','timm','diffusers','seaborn','matplotlib','pandas','scipy','sklearn','numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_why_names_the_settings_that_differ_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = copy.deepcopy(TINY["models"])
    models[1]["conditions"]["dropout"]["rates"] = [0.3, 0.5]
    (before,), (after,) = (made.of_kind("report") for made in (planned(), planned(models=models[1:])))
    folder = tmp_path / before.out
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({**before.spec, "ended": "2026-01-01"}))
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in explain(after, 1)]
    assert "setting config.models.mlp.conditions.dropout.rates: [0.3, 0.6] -> [0.3, 0.5]" in lines
    assert "setting config.models.lite0: removed" in lines
    assert not [line for line in lines if len(line) > 150]


def test_why_knows_what_nothing_reads_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models may be deleted once they are analysed: nothing would be made for it."""
    monkeypatch.chdir(tmp_path)
    job = planned().of_kind("finetune")[0]
    assert explain(job, 0)[0].endswith("not to be made: nothing that is to be made reads it")
    assert "would be made" in explain(job, 2)[0]


def test_why_names_jobs_like_an_unknown_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["why", "finetune/mlp/rotation-20", "--configfile", "tests/configs/tiny.yaml"]) == 2
    said = capsys.readouterr().err
    assert "similar: finetune/mlp/augmentation-rotation-20" in said and "`diversity-spectra why STAGE`" in said


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m diversity_spectra.cli check | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupt(argv: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parse", interrupt)
    assert cli.main(["check"]) == 130
    assert capsys.readouterr().err == "stopped\n"
