"""The plan of one experiment: from its configuration to the jobs of every stage.

Nothing heavy is imported and nothing is run here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from diversity_spectra.augment.job import Augment, DataRecipe
from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.compare.job import CompareConditions, Compared, Gather, Run
from diversity_spectra.conditions import Condition
from diversity_spectra.config import Config, TrainedModel
from diversity_spectra.data.job import Corrupted, ImageFolder, OodCorruption, Prepare
from diversity_spectra.diversity.job import MeasureDiversity
from diversity_spectra.evaluate.job import Evaluate
from diversity_spectra.execution import with_origins
from diversity_spectra.finetune.job import ChooseRate, Finetune, Network, Pretrain, Recipe, Training, Trial
from diversity_spectra.generate.job import DrawShard, JoinShards, TrainGenerator
from diversity_spectra.jobs import RECORD, Job, RunsJob, items, read_record
from diversity_spectra.report.job import WriteReport
from diversity_spectra.seeds import derive_seed
from diversity_spectra.settings import written
from diversity_spectra.spectra.job import Analyse
from diversity_spectra.stages import kinds

RUNS_PER_GATHER = 200
AUGMENTATIONS_SHOWN = 8  # whose samples the report shows
# What of a recipe pretraining follows, beside its rate.
OF_PRETRAINING = (
    "batch_size", "optimizer", "schedule", "warmup", "clip", "freeze_norm", "precision", "label_smoothing", "split_batch_norm",
)  # fmt: skip
PLAIN = "plain"  # the training set of the real images as they are

J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Runs:
    """All runs of one condition of one model: the seeds, and the jobs that make, test and analyse them."""

    model: TrainedModel
    condition: Condition
    seeds: tuple[int, ...]
    finetune: Finetune
    evaluate: Evaluate
    spectra: Analyse
    training_set: str

    @property
    def jobs(self) -> tuple[RunsJob, ...]:
        return self.finetune, self.evaluate, self.spectra

    @property
    def blocks(self) -> list[tuple[int, ...]]:
        return blocks(self.seeds, self.model.seeds_per_job)


@dataclass(frozen=True)
class Trials:
    """Runs of a model that a learning rate is tried with."""

    model: TrainedModel
    lr: float
    seeds: tuple[int, ...]
    finetune: Finetune
    evaluate: Evaluate

    @property
    def jobs(self) -> tuple[RunsJob, ...]:
        return self.finetune, self.evaluate

    @property
    def blocks(self) -> list[tuple[int, ...]]:
        return blocks(self.seeds, self.model.seeds_per_job)


def blocks(seeds: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    """Fixed blocks of seeds that share a process: 0..B-1, B..2B-1, ..."""
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]


class Known:
    """Where results lie by their kind and key: what was made under another name is the same result."""

    def __init__(self) -> None:
        self.folders: dict[tuple[str, str], list[str]] = {}
        for kind in kinds():
            for folder in items(kind):
                self.folders.setdefault((kind, folder.name[-12:]), []).append(str(folder))

    def find(self, job: J) -> J:
        folders = self.folders.setdefault((job.kind, job.key), [job.out])
        return job if job.place or job.out in folders else job.model_copy(update={"folder": min(folders)})

    def with_origins(self, job: J, packages: list[str], place: str) -> J:
        """The job with its origins, where it lies. What was made by the very versions that count now keeps its key."""
        counted = with_origins(job, packages, place)
        plain = self.find(counted.model_copy(update={"packages": {}}))
        return plain if not packages or _made_with(plain, counted.packages) else self.find(counted)


def _made_with(job: Job, versions: dict[str, str]) -> bool:
    """Whether results of the job are there, all of them made with these versions as far as they used the packages."""
    records = [
        read_record(path.parent) or {}
        for path in (*Path(job.out).glob(RECORD), *Path(job.out).glob(f"seed-*/{RECORD}"))
    ]
    used = [record.get("packages", {}) for record in records if record.get("key") == job.key]
    return bool(used) and all(made.get(name, version) == version for made in used for name, version in versions.items())


@dataclass
class Plan:
    """Every job of one experiment. `training_sets` maps names to folders, `test_sets` names to jobs."""

    config: Config
    known: Known
    jobs: list[Job] = field(default_factory=list)
    runs: list[Runs] = field(default_factory=list)
    trials: list[Trials] = field(default_factory=list)
    training_sets: dict[str, str] = field(default_factory=dict)
    test_sets: dict[str, Prepare] = field(default_factory=dict)
    validation: Prepare | None = None  # images set aside
    notes: list[str] = field(default_factory=list)  # what the user should know before anything runs

    def add(self, job: J, place: str = "") -> J:
        job = self.known.with_origins(job, self.config.packages, place)
        self.jobs.append(job)
        return job

    def of_kind(self, kind: str) -> list[Job]:
        return [job for job in self.jobs if job.kind == kind]


def plan(config: Config, known: Known | None = None) -> Plan:
    """Work out every job. Raises `UserError` if a file named in the configuration is missing."""
    made = Plan(config, known or Known())
    train, test, pool = _plan_data(made)
    generated = _plan_generator(made, train, pool)
    for model in config.models:
        pretrained = _plan_pretrained(made, model, pool)
        tuned = _plan_tuning(made, model, train, pretrained)
        for condition in model.expanded():
            _plan_runs(made, model, condition, train, pretrained, generated, tuned)
    _plan_diversity(made, train, test, generated)
    compare = _plan_comparison(made)
    _plan_report(made, compare, generated)
    return made


# ---------------------------------------------------------------- images


def _plan_data(made: Plan) -> tuple[Prepare, Prepare, Prepare | None]:
    config, seed = made.config, made.config.seed

    def part(split: str) -> Prepare:
        name = f"{getattr(config.data, 'name', config.data.kind)}-{split}"
        return made.add(Prepare(name=name, source=config.data.of_split(split), split=split, seed=seed), "data")

    train, test = part("train"), part("test")
    pool = part("pool") if config.data.pool_per_class else None
    made.validation = part("validation") if config.data.validation_fraction else None
    made.notes += config.data.notes()
    made.test_sets["test"] = test
    for ood in config.ood:
        if isinstance(ood, OodCorruption):
            for kind in ood.corruptions:
                for severity in ood.severities:
                    name, source = f"test-{kind}-{severity}", Corrupted(corruption=kind, severity=severity)
                    made.test_sets[name] = made.add(Prepare(name=name, source=source, seed=seed, images=test.out))
        else:
            name = getattr(ood, "name", ood.kind)
            source = ood.source() if hasattr(ood, "source") else ood
            # The order of the classes is that of the data set itself.
            shifted = Prepare(name=f"ood-{name}", source=source.of_split("test"), seed=seed, classes_of=test.out)
            made.test_sets[name] = made.add(shifted, "ood")
    return train, test, pool


def _plan_generator(made: Plan, train: Prepare, pool: Prepare | None) -> JoinShards | None:
    generator, seed = made.config.generator, made.config.seed
    if generator is None:
        return None
    trained = None
    if generator.trained:
        source = pool if getattr(generator, "train_on", "") == "pool" else train
        training = TrainGenerator(name=generator.kind, source=generator.for_training(), seed=seed, images=source.out)
        trained = made.add(training, "generator").out
    drawing, parts = generator.for_drawing(), generator.parts
    shards = [
        made.add(
            DrawShard(
                name=f"{generator.kind}-{shard}", source=drawing, shard=[shard, parts], seed=seed, images=train.out,
                generator=trained,
            ),
            "generator",
        )
        for shard in range(parts)
    ]  # fmt: skip
    return made.add(JoinShards(name=generator.kind, shards=[shard.out for shard in shards]))


def _plan_training_set(made: Plan, recipe: DataRecipe, train: Prepare, generated: JoinShards | None) -> str:
    if recipe.name not in made.training_sets:
        if recipe == DataRecipe():
            made.training_sets[PLAIN] = train.out
        else:
            copies = made.config.copies if recipe.augmentations else 1
            synthetic = generated.out if recipe.synthetic and generated else None
            job = Augment(
                name=recipe.name,
                recipe=recipe,
                copies=copies,
                materialise=made.config.execution.materialise,
                seed=made.config.seed,
                images=train.out,
                synthetic=synthetic,
            )
            made.training_sets[recipe.name] = made.add(job).out
    return made.training_sets[recipe.name]


def _plan_diversity(made: Plan, train: Prepare, test: Prepare, generated: JoinShards | None) -> None:
    measured, seed = made.config.diversity, made.config.seed
    if isinstance(made.config.data, ImageFolder):
        there = made.config.data.smallest_class()
        if 1 < there < measured.per_class:
            made.notes.append(
                f"diversity.per_class is {measured.per_class}, but the smallest class has {there} images to train on: scores"
                f" are taken at {there}, or less where files cannot be read"
            )
    scored = {"measured": measured, "seed": seed, "plain": train.out}
    for name, folder in made.training_sets.items():
        tested = test.out if name == PLAIN else None
        made.add(MeasureDiversity(name=name, images=folder, test=tested, **scored), "diversity")
    if generated:
        sets = {"images": generated.out, "reference": train.out, "test": test.out}
        made.add(MeasureDiversity(name="synthetic", **sets, **scored), "diversity")


# ---------------------------------------------------------------- runs


def _plan_pretrained(made: Plan, model: TrainedModel, pool: Prepare | None) -> str | None:
    if model.weights == "none":
        return None
    job = Pretrain(
        name=model.name, network=Network.of(model).reading("options", "channels", "image_size"), weights=model.weights
    )
    if model.weights == "pretrain":
        # Regularisers of the conditions are none of this task, which needs all layers.
        plain = Recipe.of(model).reading(*OF_PRETRAINING)
        recipe = plain.model_copy(update={"steps": model.pretrain_steps})
        training = Training.of(recipe, dropout=0.0, dropout_where="", weight_decay=0.0)
        job = job.model_copy(
            update={
                "network": Network.of(model),
                "training": training,
                "seed": made.config.seed,
                "images": pool and pool.out,
            }
        )
    return made.add(job, model.name).out


def _plan_tuning(made: Plan, model: TrainedModel, train: Prepare, pretrained: str | None) -> str | None:
    """Plain trainings with every learning rate, judged by the images set aside; their random streams are their own."""
    if model.tune is None:
        return None
    network, seeds, tried = Network.of(model), tuple(range(model.tune.seeds)), []
    for rate in model.tune.lr:
        name = f"{model.name}/tune-lr-{written(rate)}"
        plain = {"dropout": 0.0, "dropout_where": "", "weight_decay": 0.0, "lr": rate, "on_divergence": "record"}
        runs = Finetune(
            name=name, network=network, training=Training.of(model, **plain), seed=derive_seed(made.config.seed, "tune"),
            train=train.out, pretrained=pretrained,
        )  # fmt: skip
        runs = made.add(runs, name)
        judged = made.add(
            Evaluate(
                name=name,
                network=network,
                runs=runs.out,
                sets={"validation": made.validation.out},
                precision=model.evaluation_precision,
            )
        )
        made.trials.append(Trials(model, rate, seeds, runs, judged))
        tried += [Trial(lr=rate, evaluate=f"{judged.out}/seed-{seed}") for seed in seeds]
    return made.add(ChooseRate(name=model.name, lr=model.lr, trials=tried)).out


def _plan_runs(
    made: Plan, model: TrainedModel, condition: Condition, train: Prepare, pretrained: str | None,
    generated: JoinShards | None, tuned: str | None,
) -> None:  # fmt: skip
    config, network = made.config, Network.of(model)
    training_set = _plan_training_set(made, condition.data, train, generated)
    name = f"{model.name}/{condition.name}"
    if condition.checkpoint:
        job = Finetune(name=name, network=network, checkpoint=condition.checkpoint, train=training_set)
        seeds: tuple[int, ...] = (0,)
    else:
        training = Training.of(
            model, **{"dropout": 0.0, "dropout_where": "", "weight_decay": 0.0, **condition.training}
        )
        job = Finetune(
            name=name, network=network, training=training, seed=config.seed, train=training_set, pretrained=pretrained,
            tuned=tuned,
        )  # fmt: skip
        seeds = tuple(range(model.baseline_runs if condition.family == "baseline" else model.seeds))
    finetune = made.add(job, name)
    sets = {name: job.out for name, job in made.test_sets.items()}
    if generated and condition.family == "baseline":
        # How often a classifier that has seen no synthetic image agrees with their labels.
        sets["synthetic"] = generated.out
    evaluate = made.add(
        Evaluate(name=name, network=network, runs=finetune.out, sets=sets, precision=model.evaluation_precision)
    )
    analysis = {"analysis": config.spectra, "network": network.told}
    spectra = made.add(Analyse(name=name, **analysis, runs=finetune.out, pretrained=pretrained))
    made.runs.append(Runs(model, condition, seeds, finetune, evaluate, spectra, condition.data.name))


# ---------------------------------------------------------------- results


def _plan_comparison(made: Plan) -> CompareConditions:
    config = made.config
    runs = [
        Run(
            model=run.model.name, condition=run.condition.name, seed=seed,
            **{job.kind: f"{job.out}/seed-{seed}" for job in run.jobs},
        )
        for run in made.runs
        for seed in run.seeds
    ]  # fmt: skip
    chunks = [
        made.add(Gather(name=f"runs-{start}", runs=runs[start : start + RUNS_PER_GATHER])).out
        for start in range(0, len(runs), RUNS_PER_GATHER)
    ]
    diversity = {job.name: job.out for job in made.of_kind(MeasureDiversity.kind)}
    return made.add(
        CompareConditions(
            name=config.experiment, compare=config.compare, conditions=list(map(_compared, made.runs)), seed=config.seed,
            runs=chunks, diversity=diversity,
        )
    )  # fmt: skip


def _compared(run: Runs) -> Compared:
    condition, training = run.condition, run.finetune.training
    known = training is not None
    return Compared(
        model=run.model.name,
        condition=condition.name,
        family=condition.family,
        kind=condition.kind,
        strength=condition.strength,
        training_set=run.training_set if known else "",
        dropout=training.dropout if known else None,
        weight_decay=training.weight_decay if known else None,
        synthetic=condition.data.synthetic if known else None,
        runs=len(run.seeds),
    )


def _plan_report(made: Plan, compare: CompareConditions, generated: JoinShards | None) -> None:
    config = made.config
    made.add(
        WriteReport(
            name=config.experiment,
            look=config.report,
            experiment=config.experiment,
            config=config.model_dump(mode="json", exclude={"execution", "report"}),
            tables=compare.out,
            images=_shown_sets(made) | ({"synthetic": generated.out} if generated else {}),
            spectra={run.spectra.name: run.spectra.out for run in made.runs},
        ),
        "report",
    )


def _shown_sets(made: Plan) -> dict[str, str]:
    """Training sets whose samples the report shows: the plain one, and the strongest level of each augmentation."""

    def strength(run: Runs) -> float:
        return run.condition.strength * (-1 if KINDS[run.condition.kind].falling else 1)

    augmented = [run for run in made.runs if run.condition.kind in KINDS]
    strongest = {run.condition.kind: run.training_set for run in sorted(augmented, key=strength)}
    names = [PLAIN, *(strongest[kind] for kind in sorted(strongest)[:AUGMENTATIONS_SHOWN])]
    return {name: made.training_sets[name] for name in names}
