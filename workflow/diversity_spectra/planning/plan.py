"""The plan: from a configuration to the jobs of every stage, with their settings, inputs and places.

Nothing heavy is imported and nothing is run here. The Snakefile, `plan` and `why` all read the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from diversity_spectra import config as configuration
from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.conditions import Condition, DataRecipe, expand
from diversity_spectra.config import Config, TrainedModel
from diversity_spectra.data.tree import training_images
from diversity_spectra.planning.fingerprint import fingerprint
from diversity_spectra.provenance import NAME, Job, code_digest, digest

RUNS_PER_GATHER = 200
AUGMENTATIONS_SHOWN = 8  # whose samples the report shows
IMAGE_SET = ("images.npy", "labels.npy", "manifest.parquet", "meta.json")

# What a job of each stage leaves in its folder, or in its folder of one seed, beside `spec.json`.
FILES = {
    "data": IMAGE_SET,
    "generator": ("unet/diffusion_pytorch_model.safetensors", "unet/config.json"),
    "shard": IMAGE_SET,
    "generate": IMAGE_SET,
    "augment": IMAGE_SET,
    "diversity": ("scores.parquet", "quality.parquet"),
    "pretrained": ("model.safetensors",),
    "finetune": ("model.safetensors", "history.parquet", "run.json"),
    "evaluate": ("predictions.npz", "metrics.parquet"),
    "spectra": ("rows.parquet", "eigenvalues.npz"),
    "gather": ("runs.parquet", "evaluation.parquet", "spectra.parquet"),
}


def files(stage: str, folder: str) -> list[str]:
    """Paths of all files of one result, its record included."""
    return [f"{folder}/{name}" for name in (*FILES[stage], "spec.json")]


def files_in(folder: str) -> list[str]:
    """The same for a folder whose stage is read off its place in the cache."""
    return files(folder.split("/")[2], folder)


@dataclass(frozen=True)
class Runs:
    """All runs of one condition of one model: the seeds, and the jobs that make, test and analyse them."""

    model: TrainedModel
    condition: Condition
    seeds: tuple[int, ...]
    finetune: Job
    evaluate: Job
    spectra: Job
    training_set: str

    @property
    def blocks(self) -> list[tuple[int, ...]]:
        """Fixed blocks of seeds that share a process: 0..B-1, B..2B-1, ..."""
        size = self.model.seeds_per_job
        return [self.seeds[start : start + size] for start in range(0, len(self.seeds), size)]


@dataclass
class Plan:
    """Jobs by stage and item. `runs` joins models, conditions and seeds; `training_sets` maps names to folders."""

    config: Config
    jobs: dict[str, dict[str, Job]] = field(default_factory=dict)
    runs: list[Runs] = field(default_factory=list)
    training_sets: dict[str, str] = field(default_factory=dict)
    test_sets: dict[str, Job] = field(default_factory=dict)
    offline: set[str] = field(default_factory=set)  # data jobs that may download nothing
    notes: list[str] = field(default_factory=list)  # what the user should know before anything runs

    def code(self, stage: str, *modules: str) -> str:
        """Digest of a stage's code, and of the packages whose versions the configuration counts."""
        code = code_digest(stage, *modules)
        packages = {package: metadata.version(package) for package in self.config.packages}
        return digest([code, packages]) if packages else code

    def add(
        self,
        stage: str,
        name: str,
        settings: dict,
        code: str | None = None,
        modules: Iterable[str] = (),
        **inputs: object,
    ) -> Job:
        given = {key: value for key, value in inputs.items() if value}
        job = Job(stage, name, settings, given, self.code(code or stage, *modules))
        self.jobs.setdefault(stage, {})[job.item] = job
        return job


def plan(config: Config) -> Plan:
    """Work out every job. Raises `UserError` if a file named in the configuration is missing."""
    made = Plan(config)
    train, test, pool = _plan_data(made)
    generated = _plan_generator(made, train, pool)
    for model in config.models:
        for condition in expand(model.conditions):
            _plan_runs(made, model, condition, train, pool, generated)
    _plan_diversity(made, train, test, generated)
    _plan_results(made)
    return made


# ---------------------------------------------------------------- stages


def _plan_data(made: Plan) -> tuple[Job, Job, Job | None]:
    config = made.config

    def prepared(chosen: configuration.Data | configuration.Ood, name: str, split: str, **inputs: str) -> Job:
        described = with_fingerprint(chosen.model_dump(), "data" if chosen is config.data else "ood")
        if chosen.kind != "digits":
            # The test images do not depend on how many are trained on, nor these on how many are tested on.
            unread = ("train_per_class", "pool_per_class") if split == "test" else ("test_per_class",)
            described = {key: value for key, value in described.items() if key not in unread}
        settings = {"source": described, "split": split, "seed": config.seed}
        job = made.add("data", name, settings, **inputs)
        if not getattr(chosen, "download", True):
            made.offline.add(job.item)
        return job

    def part(split: str) -> Job:
        return prepared(config.data, f"{getattr(config.data, 'name', config.data.kind)}-{split}", split)

    train, test = part("train"), part("test")
    pool = part("pool") if config.data.pool_per_class else None
    made.test_sets["test"] = test
    for ood in config.ood:
        if isinstance(ood, configuration.OodCorruption):
            for kind in ood.corruptions:
                for severity in ood.severities:
                    settings = {"source": {"kind": "corruption", "corruption": kind, "severity": severity}}
                    name = f"test-{kind}-{severity}"
                    made.test_sets[name] = made.add("data", name, {**settings, "seed": config.seed}, images=test.out)
        else:
            name = getattr(ood, "name", ood.kind)
            # The order of the classes is that of the data set itself.
            made.test_sets[name] = prepared(ood, f"ood-{name}", "test", classes=test.out)
    return train, test, pool


def _plan_generator(made: Plan, train: Job, pool: Job | None) -> Job | None:
    generator = made.config.generator
    if generator is None:
        return None
    settings = {**with_fingerprint(generator.model_dump(), "generator"), "seed": made.config.seed}
    shards = settings.pop("shards", 1)
    source = pool if settings.get("train_on") == "pool" else train
    inputs = {"images": source.out}
    if settings["kind"] == "ddpm":
        sampling = ("images_per_class", "inference_steps", "guidance")
        training = {key: value for key, value in settings.items() if key not in sampling}
        trained = made.add("generator", "ddpm", training, code="generate", images=source.out)
        inputs = {"generator": trained.out, "classes": train.out}
        settings = {key: settings[key] for key in (*sampling, "kind", "seed")}
    parts = [
        made.add(
            "shard", f"{settings['kind']}-{shard}", {**settings, "shard": [shard, shards]}, code="generate", **inputs
        )
        for shard in range(shards)
    ]
    return made.add("generate", settings["kind"], {"seed": made.config.seed}, shards=[part.out for part in parts])


def _plan_training_set(made: Plan, recipe: DataRecipe, train: Job, generated: Job | None) -> str:
    if recipe == DataRecipe():
        made.training_sets["plain"] = train.out
        return train.out
    settings = {**recipe.settings(), "seed": made.config.seed}
    if recipe.augmentations:
        settings["copies"] = made.config.copies
    synthetic = generated.out if recipe.synthetic and generated else None
    kinds = [KINDS[kind].apply.__module__.removeprefix(f"{NAME}.") for kind, _ in recipe.augmentations]
    job = made.add("augment", recipe.name, settings, modules=kinds, images=train.out, synthetic=synthetic)
    made.training_sets[recipe.name] = job.out
    return job.out


def _plan_pretrained(made: Plan, model: TrainedModel, pool: Job | None) -> str | None:
    if model.weights == "none":
        return None
    source = {key: getattr(model, key) for key in ("architecture", "options", "channels", "image_size", "weights")}
    if model.weights == "pretrain":
        recipe = ("resize", "batch_size", "lr", "warmup", "clip", "freeze_norm", "precision", "label_smoothing")
        source |= {key: getattr(model, key) for key in recipe}
        source |= {"steps": model.pretrain_steps, "weight_decay": 0.0, "flip": False}
        source["seed"] = made.config.seed
        return made.add("pretrained", model.name, source, code="finetune", images=pool.out if pool else None).out
    if Path(model.weights).suffix:
        source["weights_fingerprint"] = fingerprint(model.weights, f"{model.name}: weights")
    return made.add("pretrained", model.name, source, code="finetune").out


def _plan_runs(
    made: Plan, model: TrainedModel, condition: Condition, train: Job, pool: Job | None, generated: Job | None
) -> None:
    config = made.config
    network = {key: getattr(model, key) for key in ("architecture", "options", "image_size", "resize", "channels")}
    pretrained = _plan_pretrained(made, model, pool)
    training_set = _plan_training_set(made, condition.recipe, train, generated)
    name = f"{model.name}/{condition.name}"
    if condition.checkpoint:
        content = fingerprint(condition.checkpoint, f"{name}: checkpoint")
        settings = {**network, "checkpoint": condition.checkpoint, "checkpoint_fingerprint": content}
        finetune = made.add("finetune", name, settings, train=training_set)
        seeds: tuple[int, ...] = (0,)
    else:
        recipe = ("steps", "batch_size", "lr", "warmup", "clip", "freeze_norm", "precision", "flip")
        settings = {
            **network,
            **{key: getattr(model, key) for key in (*recipe, "label_smoothing")},
            # Named only where they are used, so that results without them are found again.
            **{key: value for key in ("compile", "ema") if (value := getattr(model, key))},
            "dropout": condition.dropout,
            "dropout_where": condition.dropout_where if condition.dropout else "",
            "weight_decay": condition.weight_decay,
            "seed": config.seed,
        }
        finetune = made.add("finetune", name, settings, train=training_set, pretrained=pretrained)
        seeds = tuple(range(model.baseline_runs if condition.family == "baseline" else model.seeds))
    sets = {f"set:{name}": job.out for name, job in made.test_sets.items()}
    if generated and condition.family == "baseline":
        # How often a classifier that has seen no synthetic image agrees with their labels.
        sets["set:synthetic"] = generated.out
    evaluate = made.add("evaluate", name, network, runs=finetune.out, **sets)
    spectra = made.add("spectra", name, config.spectra.model_dump(), runs=finetune.out, pretrained=pretrained)
    made.runs.append(Runs(model, condition, seeds, finetune, evaluate, spectra, condition.recipe.name))


def _plan_diversity(made: Plan, train: Job, test: Job, generated: Job | None) -> None:
    settings = {**made.config.diversity.model_dump(), "seed": made.config.seed}
    if isinstance(made.config.data, configuration.ImageFolder):
        wanted, there = settings["per_class"], training_images(made.config.data.model_dump())
        if 1 < there < wanted:
            settings["per_class"] = there
            made.notes.append(
                f"diversity.per_class is {wanted}, but the smallest class has {there} images to train on: scores are taken"
                f" at {there}"
            )
    weights = made.config.diversity.embedding.partition(":")[2]
    if Path(weights).suffix:
        settings["weights_fingerprint"] = fingerprint(weights, "diversity.embedding")
    for name, folder in dict(made.training_sets).items():
        made.add("diversity", name, settings, images=folder)
    if generated:
        made.add("diversity", "synthetic", settings, images=generated.out, reference=train.out, test=test.out)


def _plan_results(made: Plan) -> None:
    config = made.config
    chunks = []
    runs = [(run, seed) for run in made.runs for seed in run.seeds]
    for start in range(0, len(runs), RUNS_PER_GATHER):
        chunk = [
            {
                "model": run.model.name,
                "condition": run.condition.name,
                "seed": seed,
                **{stage: f"{getattr(run, stage).out}/seed-{seed}" for stage in ("finetune", "evaluate", "spectra")},
            }
            for run, seed in runs[start : start + RUNS_PER_GATHER]
        ]
        chunks.append(made.add("gather", f"runs-{start}", {"runs": chunk}, code="compare"))
    conditions = [
        {
            "model": run.model.name,
            "condition": run.condition.name,
            "family": run.condition.family,
            "kind": run.condition.kind,
            "strength": run.condition.strength,
            **_trained_with(run),
            "runs": len(run.seeds),
        }
        for run in made.runs
    ]
    diversity = {job.name: job.out for job in made.jobs["diversity"].values()}
    compare = Job(
        "compare",
        config.experiment,
        {**config.compare.model_dump(), "seed": config.seed, "conditions": conditions, "diversity": diversity},
        {"runs": [chunk.out for chunk in chunks]},
        made.code("compare"),
        place=f"results/{config.experiment}/tables",
    )
    made.jobs["compare"] = {compare.item: compare}
    generated = next(iter(made.jobs.get("generate", {}).values()), None)
    report = Job(
        "report",
        config.experiment,
        {
            **with_fingerprint(config.report.model_dump(), "report"),
            "experiment": config.experiment,
            # The tables lie in a fixed place, so their path does not tell which ones they are.
            "compare": compare.key,
            "config": config.model_dump(exclude={"execution", "report"}),
            "images": _shown_sets(made) | ({"synthetic": generated.out} if generated else {}),
            "spectra": {f"{run.model.name}/{run.condition.name}": run.spectra.out for run in made.runs},
        },
        {"tables": compare.out},
        made.code("report"),
        place=f"results/{config.experiment}",
    )
    made.jobs["report"] = {report.item: report}


def _trained_with(run: Runs) -> dict[str, str | float | None]:
    """Images and regularisers of a condition; nothing is known of those of a checkpoint."""
    condition = run.condition
    if condition.checkpoint:
        return {"training_set": "", "dropout": None, "weight_decay": None, "synthetic": None}
    return {
        "training_set": run.training_set,
        "dropout": condition.dropout,
        "weight_decay": condition.weight_decay,
        "synthetic": condition.recipe.synthetic,
    }


def _shown_sets(made: Plan) -> dict[str, str]:
    """Training sets whose samples the report shows: the plain one, and the strongest level of each augmentation."""

    def strength(run: Runs) -> float:
        return run.condition.strength * (-1 if KINDS[run.condition.kind].falling else 1)

    augmented = [run for run in made.runs if run.condition.family == "augmentation"]
    strongest = {run.condition.kind: run.training_set for run in sorted(augmented, key=strength)}
    names = ["plain", *(strongest[kind] for kind in sorted(strongest)[:AUGMENTATIONS_SHOWN])]
    return {name: made.training_sets[name] for name in names}


def with_fingerprint(source: dict, place: str) -> dict:
    """Add the content of what a user's path names: changed files are noticed, touched or moved ones change nothing.

    place: where `source` stands in the configuration.
    """
    source = dict(source)
    for key in ("path", "images", "labels", "captions", "style"):
        if isinstance(source.get(key), str):
            source[f"{key}_fingerprint"] = fingerprint(source[key], f"{place}.{key}")
    if source.get("kind") in ("text_to_image", "image_to_image") and Path(source["model"]).is_dir():
        source["model_fingerprint"] = fingerprint(source["model"], f"{place}.model")
    # Whether a download is allowed changes nothing about the images.
    source.pop("download", None)
    return source
