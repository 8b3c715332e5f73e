"""Units of work of a job: the number that predicts its time, and what decides the time of one unit.

A pure function of the job and of the sizes of the image sets it names. Jobs of one stage and one kind cost the same per
unit on the same device; so a kind names whatever makes a unit dearer: the network, the side of its images, the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from diversity_spectra.costs.sizes import Sets

# Stages whose rules give them the threads of the configuration; the others have one.
THREADED = {"generator", "shard", "diversity", "finetune", "evaluate", "spectra"}


@dataclass(frozen=True)
class Work:
    """`units` of one `unit`, each as dear as `kind` says; None where the number of images is not known yet.

    `size` is the room of the result on the disk in bytes, where the settings tell.
    """

    kind: str
    unit: str
    units: float | None
    size: int | None = None


def work(job: dict, results: int, sets: Sets) -> Work:
    """The work of a job (`Job.spec`), of so many seeds in the stages that work by run."""
    return _STAGES[job["stage"]](job, results, sets)


def takes_device(job: dict) -> bool:
    """Whether the job runs on the GPU where there is one."""
    stage, settings = job["stage"], job["settings"]
    return (
        stage in ("generator", "evaluate")
        or (stage == "shard" and settings["kind"] != "image_set")
        or (stage == "finetune" and "checkpoint" not in settings)
        or (stage == "pretrained" and "images" in job["inputs"])
        or (stage == "diversity" and settings["embedding"] != "none")
    )


# ---------------------------------------------------------------- image sets


def _data(job: dict, results: int, sets: Sets) -> Work:
    source = job["settings"]["source"]
    names = {"corruption": "corruption", "torchvision": "name"}
    return _image_set(source[names.get(source["kind"], "kind")], job, sets)


def _generate(job: dict, results: int, sets: Sets) -> Work:
    return _image_set("joining", job, sets)


def _augment(job: dict, results: int, sets: Sets) -> Work:
    return _image_set(" + ".join(kind for kind, _ in job["settings"]["augmentations"]) or "mixing", job, sets)


def _image_set(kind: str, job: dict, sets: Sets) -> Work:
    shape = sets.shape(job["out"])
    if shape is None:
        return Work(kind, "images", None)
    images, height, width, channels = shape
    # Pixels are bytes and labels int64; the manifest is small beside them.
    return Work(f"{kind} at {height} px", "images", images, images * (height * width * channels + 8))


def _shard(job: dict, results: int, sets: Sets) -> Work:
    settings = job["settings"]
    if settings["kind"] == "image_set":
        return _image_set("given images", job, sets)
    if settings["kind"] == "ddpm":
        made = _image_set(_ddpm(sets.settings(job["inputs"]["generator"])), job, sets)
        kind, guided = made.kind, settings["guidance"] != 1
    else:
        made = _image_set("", job, sets)
        kind = f"{settings['model']} at {settings['image_size']} px, {settings['dtype']}"
        guided = settings["guidance"] > 1
    # Guidance asks the network twice, with the class and without.
    calls = settings["inference_steps"] * settings.get("strength", 1) * (2 if guided else 1)
    return Work(kind, "denoisings", None if made.units is None else made.units * calls, made.size)


# ---------------------------------------------------------------- networks


def _generator(job: dict, results: int, sets: Sets) -> Work:
    settings, shape = job["settings"], sets.shape(job["inputs"]["images"])
    kind = f"{_ddpm(settings)} at {shape[1] if shape else '?'} px, {settings['batch_size']} a step"
    return Work(kind, "images", settings["train_steps"] * settings["batch_size"])


def _pretrained(job: dict, results: int, sets: Sets) -> Work:
    return _training(job, 1) if "images" in job["inputs"] else Work(_network(job["settings"]), "networks", 1)


def _finetune(job: dict, results: int, sets: Sets) -> Work:
    if "checkpoint" in job["settings"]:
        return Work(f"checkpoint of {_network(job['settings'])}", "networks", results)
    return _training(job, results)


def _training(job: dict, runs: int) -> Work:
    settings = job["settings"]
    network = f"{_network(settings)} at {settings['image_size']} px"
    kind = f"{network}, {settings['precision']}, {settings['batch_size']} a step"
    return Work(kind, "images", settings["steps"] * settings["batch_size"] * runs)


def _network(settings: dict) -> str:
    """The network and what it is built with, which may make it larger."""
    options = " ".join(f"{key}={value}" for key, value in sorted(settings.get("options", {}).items()))
    return " ".join(filter(None, [settings.get("architecture", "a network"), options]))


def _ddpm(settings: dict) -> str:
    return f"ddpm {settings.get('channels', '?')}"


# ---------------------------------------------------------------- measures


def _diversity(job: dict, results: int, sets: Sets) -> Work:
    settings, images = job["settings"], job["inputs"]["images"]
    embedding = settings["embedding"]
    space = "pixels" if embedding == "none" else f"{embedding} at {settings['image_size']} px"
    kind = f"{space}, {settings['per_class']} of a class"
    if "reference" in job["inputs"]:
        shape = sets.shape(images)
        return Work(f"{kind}, near-copies", "images", shape and shape[0])
    classes = sets.classes(images)
    return Work(kind, "images", classes and classes * settings["per_class"] * settings["subsamples"])


def _evaluate(job: dict, results: int, sets: Sets) -> Work:
    settings = job["settings"]
    shapes = [sets.shape(folder) for role, folder in job["inputs"].items() if role.startswith("set:")]
    images = None if None in shapes else sum(shape[0] for shape in shapes) * results
    return Work(f"{_network(settings)} at {settings['image_size']} px", "images", images)


def _spectra(job: dict, results: int, sets: Sets) -> Work:
    settings = job["settings"]
    network = _network(sets.settings(job["inputs"]["runs"]))
    matrices = "W and dW" if "pretrained" in job["inputs"] else "W"
    kind = f"{network}, {matrices}, {settings['convention']}, {settings['bootstrap']} draws"
    return Work(kind, "networks", results)


def _gather(job: dict, results: int, sets: Sets) -> Work:
    return Work("gathering", "runs", len(job["settings"]["runs"]))


def _compare(job: dict, results: int, sets: Sets) -> Work:
    settings = job["settings"]
    kind = f"comparing with {settings['bootstrap']} draws, {settings['permutations']} permutations"
    return Work(kind, "runs", sum(condition["runs"] for condition in settings["conditions"]))


def _report(job: dict, results: int, sets: Sets) -> Work:
    return Work("drawing", "conditions", len(job["settings"]["spectra"]))


def _sweep(job: dict, results: int, sets: Sets) -> Work:
    return Work("several experiments", "experiments", len(job["settings"]["experiments"]))


_STAGES = {
    "data": _data,
    "generator": _generator,
    "shard": _shard,
    "generate": _generate,
    "augment": _augment,
    "diversity": _diversity,
    "pretrained": _pretrained,
    "finetune": _finetune,
    "evaluate": _evaluate,
    "spectra": _spectra,
    "gather": _gather,
    "compare": _compare,
    "report": _report,
    "sweep": _sweep,
}
