"""What was run, in words: data, generator, networks, conditions."""

from __future__ import annotations

import re

import pandas as pd

from diversity_spectra.conditions import FAMILIES, of_role
from diversity_spectra.generate.kinds import KINDS as GENERATORS
from diversity_spectra.report.material import Material
from diversity_spectra.report.section import Section
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import NOTHING, counted, listing, plain
from diversity_spectra.report.words import condition as told

DATA = {
    "digits": "embedded MNIST digits (28 x 28, grey)",
    "torchvision": "{name}, through torchvision",
    "image_folder": "images in the folder {path}",
}
# timm's names of the dropout before a classifier.
HEAD_DROPOUT = re.compile(r"(^|\.)(head_drop|head\.(\w+\.)?drop\w*)$")


def summary(material: Material) -> list[tuple[str, str]]:
    """Pairs of heading and sentence."""
    config, runs = material.config, material.table("runs")
    conditions = material.table("conditions")
    trained = f"{len(runs)} runs: {counted([len(material.models)], 'network')}, {len(conditions)} conditions in all"
    if "steps" in runs:
        trained += "; all conditions of a network take the same number of optimiser steps"
        if conditions["family"].isin(of_role("progress")).any():
            trained += ", but those whose steps are varied"
    facts = [("Runs", trained + ".")]
    if "data" in config:
        facts.append(("Training images", _data(config["data"], material)))
    facts.append(("Test sets", _test_sets(material)))
    told_of = {made["name"]: recipe(made, _places(material, made["name"])) for made in config.get("models", [])}
    facts += [(f"Recipe of {name}", "; ".join(said) + ".") for name, said in told_of.items() if said]
    facts += [("Memory", text) for text in _split(material)]
    if "data" in config:
        facts.append(("Synthetic images", generator(config)))
    root = f", from the root seed {config['seed']}" if "seed" in config else ""
    facts.append(("Seeds", f"{runs['seed'].nunique()} per network at most{root}."))
    if made := material.made:
        if made.images:
            facts.append(("Sizes of the sets shown", f"{sizes(made.images)}."))
        devices = listing([f"{count} on {name}" for name, count in made.devices.items()])
        facts.append(
            (
                "Trained",
                f"from {made.first} to {made.last} UTC, {_hours(made.hours)} of training in all; runs: {devices}. Other tasks of "
                "the machine count in it.",
            )
        )
    return facts


def sizes(images: dict[str, int]) -> str:
    """`1,000 images: plain; 8,000 images: augmix 3 and rotation 25`."""
    names: dict[int, list[str]] = {}
    for name, number in images.items():
        names.setdefault(number, []).append(name)
    return "; ".join(f"{number:,} images: {listing(alike)}" for number, alike in names.items())


def _hours(hours: float) -> str:
    return f"{60 * hours:.1f} minutes" if hours < 2 else f"{hours:.1f} hours"


def generator(config: dict) -> str:
    """Where synthetic images come from, and whether outside information came with them."""
    made = config.get("generator")
    if not made:
        return "None in this experiment."
    return GENERATORS[made["kind"]].model_construct(**made).told(config["data"].get("pool_per_class", 0))


def optimised(made: dict) -> str:
    """Optimiser, meaning of weight decay and schedule of a network's recipe."""
    name, schedule = made.get("optimizer", "adamw"), made.get("schedule", "cosine")
    return f"{name} with {'decoupled' if name == 'adamw' else 'coupled'} weight decay, {schedule} schedule"


def _places(material: Material, model: str) -> str:
    """Where dropout acts in the runs that have any, as their table has it; empty where none says so."""
    runs = material.table("runs", model)
    told_of = runs["dropout_places"].replace("", pd.NA).dropna() if "dropout_places" in runs else []
    return str(told_of.iloc[0]) if len(told_of) else ""


def models(material: Material) -> Table:
    """One row per network."""
    configured = {model["name"]: model for model in material.config.get("models", [])}
    rows = []
    for name in material.models:
        made, runs = configured.get(name, {}), material.table("runs", name)
        conditions = material.conditions(name)
        baseline = conditions.loc[conditions["family"] == "baseline", "condition"]
        others = runs[~runs["condition"].isin(baseline)]["condition"].value_counts()
        plain_runs = runs[runs["condition"].isin(baseline)]
        steps = plain_runs["steps"].dropna() if "steps" in runs else []
        weights = made.get("weights", NOTHING)
        rows.append(
            [
                name,
                made.get("architecture", NOTHING),
                "from scratch" if weights == "none" else weights,
                str(int(steps.max())) if len(steps) else NOTHING,
                str(made.get("batch_size", NOTHING)),
                _rate(made, plain_runs),
                str(len(conditions)),
                str(len(plain_runs)),
                counted(list(others), "") if len(others) else NOTHING,
            ]
        )
    head = ["network", "architecture", "weights", "steps", "batch", "learning rate", "conditions", "baseline runs"]
    return Table([*head, "runs of others"], rows, 3)


def _rate(made: dict, baseline: pd.DataFrame) -> str:
    """Learning rate of the baseline, the chosen one where it was chosen."""
    if made.get("tune") and "lr" in baseline:
        return f"{baseline['lr'].iloc[0]:g} (chosen)"
    return f"{made['lr']:g}" if "lr" in made else NOTHING


def recipe(made: dict, places: str = "") -> list[str]:
    """What a reader has to know of a network's recipe beside its table: what was chosen, frozen, slowed down or drawn.

    places: where dropout acts, as the table of runs has it.
    """
    said = [optimised(made)] if "lr" in made else []
    if places:
        said.append(f"dropout acts on {dropped(places)}")
    if tuned := made.get("tune"):
        said.append(
            f"its learning rate was chosen of {listing([f'{rate:g}' for rate in tuned['lr']])} by {tuned['seeds']} plain"
            " trainings each, on images set aside, neither trained nor tested on"
        )
    blocks = made.get("trained_blocks")
    if blocks is not None:
        what = f"and its last {counted([blocks], 'block')} are" if blocks else "alone is"
        said.append(f"the classifier {what} trained: other layers stay as pretrained, the same in all runs")
    if made.get("layer_decay", 1) < 1:
        said.append(f"every block learns at {made['layer_decay']:g} times the rate of the next one")
    if made.get("balanced"):
        said.append("every class is drawn as often, images with replacement")
    if made.get("accumulate", 1) > 1:
        said.append(f"a batch passes in {made['accumulate']} parts, of which BatchNorm sees one at a time")
    return said


def conditions(material: Material) -> dict[str, list[tuple[str, str]]]:
    """By network: family and its conditions, weakest first."""
    result = {}
    for model in material.models:
        table = material.conditions(model)
        groups = [(family, table.loc[table["family"] == family, "condition"]) for family in FAMILIES]
        result[model] = [(plain(family), ", ".join(map(told, names))) for family, names in groups if len(names)]
    return result


def _data(data: dict, material: Material) -> str:
    text = DATA.get(data["kind"], data["kind"]).format(**data)
    if material.classes:
        text += f", {material.classes} classes"
    if data.get("train_per_class"):
        text += f", {data['train_per_class']} images per class"
    return text[0].upper() + text[1:] + "."


def _test_sets(material: Material) -> str:
    table = material.table("evaluation")
    if table.empty:
        return "Not evaluated."
    sets = table.groupby("shift", sort=False)["set"].unique()
    kinds = {"none": "in distribution", "natural": "another source", "corruption": "corrupted test images"}
    return "; ".join(f"{text}: {', '.join(sets[kind])}" for kind, text in kinds.items() if kind in sets) + "."


def _split(material: Material) -> list[str]:
    """What lack of memory did to runs: it can hit the runs of one condition only."""
    told_of = []
    for made in material.config.get("models", []):
        runs = material.table("runs", made["name"])
        if "micro_batch" not in runs:
            continue
        hit = runs[runs["micro_batch"] < -(-made["batch_size"] // made.get("accumulate", 1))]
        if len(hit):
            sizes = sorted({*hit["micro_batch"].astype(int)})
            told_of.append(
                f"for lack of it {len(hit)} of {len(runs)} runs of {made['name']} took their batches of {made['batch_size']}"
                f" images in parts of {', '.join(map(str, sizes))}, in which dropout draws other masks, as from another seed,"
                f" and BatchNorm sees other statistics. Of the conditions {', '.join(sorted(map(told, {*hit['condition']})))};"
                " where others were not hit, a smaller batch in all of them makes them alike."
            )
    return told_of


def dropped(places: str) -> str:
    """Where dropout acts, in words, from names of modules in the order in which an image passes them."""
    names = str(places).split(", ")
    branches = [name for name in names if ".drop_path" in f".{name}"]
    head = [name for name in names if name.startswith("(") or HEAD_DROPOUT.search(name)]
    others = [name for name in names if name not in branches and name not in head]
    said = [f"activations at the end of each of {len(branches)} residual branches"] if branches else []
    if others:
        said.append("activations of " + (", ".join(others) if len(others) <= 3 else f"{len(others)} modules"))
    return " and ".join([*said, *(["the input of the classifier"] if head else [])])


def facts(material: Material) -> dict[str, object]:
    return {"setup": summary(material), "networks": models(material), "conditions": conditions(material)}


SECTION = Section("run", "What was run", facts=facts)
