"""Did the networks learn? Loss and accuracy in training beside the test accuracy; without it nothing else means anything."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from diversity_spectra.compare.places import apart
from diversity_spectra.report.material import Material
from diversity_spectra.report.section import Figure, Section
from diversity_spectra.report.style import FAINT, INK, WIDTH, Drawing, canvas, family_legend, log_ticks
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import condition as told
from diversity_spectra.report.words import counted, fixed, listing

LEARNT = 0.1  # of the way from chance to 1: below it a network has learnt next to nothing
NAMED = 6  # conditions that a warning lists
PLACE_WORDS = {"device": "device", "machine": "processor", "torch": "version of torch"}
CONVERGED = 0.5  # of the same way, in training: below it training ended long before its end


def learnt(accuracy: float, classes: int) -> float:
    """How far an accuracy is on the way from chance (0) to 1; NaN where the number of classes is not known."""
    return (accuracy - 1 / classes) / (1 - 1 / classes) if classes > 1 else np.nan


def outcomes(material: Material, model: str) -> pd.DataFrame:
    """One row per run: condition, family, seed, loss and accuracy in training, accuracy on the test set, where known."""
    runs = material.table("runs", model)
    names = [name for name in ("train_loss", "train_accuracy") if name in runs]
    test = material.evaluation(model)
    test = test[["condition", "seed", *(name for name in test if name == "accuracy|none")]]
    table = runs[["condition", "seed", *names]].merge(test, on=["condition", "seed"], how="left")
    table = table.rename(columns={"accuracy|none": "test_accuracy"})
    table = table.reindex(columns=["condition", "seed", "train_loss", "train_accuracy", "test_accuracy"])
    families = material.conditions(model).set_index("condition")["family"]
    return table.assign(family=table["condition"].map(families)).astype(
        dict.fromkeys(("train_loss", "train_accuracy", "test_accuracy"), float)
    )


def warnings(material: Material) -> list[str]:
    """A sentence for every network of which the numbers say little, since it or some of its conditions have not learnt, or
    were made in another place than the baseline.
    """
    said = []
    for model in material.models:
        said += _elsewhere(material, model)
        runs = outcomes(material, model)
        means = runs.groupby(["family", "condition"], sort=False)[["train_accuracy", "test_accuracy"]].mean()
        scaled = learnt(means, material.classes) if material.classes > 1 else means * np.nan
        baseline = scaled.index.get_level_values("family") == "baseline"
        plain_test, plain_train = scaled[baseline]["test_accuracy"].max(), scaled[baseline]["train_accuracy"].max()
        chance = f"chance is {1 / material.classes:.3g}" if material.classes else ""
        if plain_test < LEARNT:
            accuracy = fixed(means[baseline]["test_accuracy"].max())
            said.append(
                f"{model} has learnt next to nothing: test accuracy {accuracy} of the baseline, where {chance}. Its spectra are "
                "those of weights that were hardly trained, and nothing else on this page means anything for it."
            )
            continue
        if plain_train < CONVERGED:
            accuracy = fixed(means[baseline]["train_accuracy"].max())
            said.append(
                f"{model} is far from converged: {accuracy} of the training images are told right at the end, where {chance}. "
                "What a regulariser or other data do later in training cannot be seen."
            )
        ruined = [told(name) for (_, name), row in scaled.iterrows() if row["test_accuracy"] < LEARNT]
        if ruined:
            said.append(
                f"{model} has learnt next to nothing under {listing(ruined)}: their shifts are those of a network that no "
                "longer does its task."
            )
    return said


def _elsewhere(material: Material, model: str) -> list[str]:
    """That conditions were made on another device, machine or version of torch than every run of the baseline."""
    conditions, runs = material.conditions(model), material.table("runs", model)
    baseline = conditions.loc[conditions["family"] == "baseline", "condition"]
    said = []
    for place, names in (apart(runs, baseline.iloc[0]) if len(baseline) else {}).items():
        here = listing(sorted(set(runs.loc[runs["condition"].isin(baseline), place]) - {""}))
        there = listing(sorted(set(runs.loc[runs["condition"].isin(names), place]) - {""}))
        who = listing([told(name) for name in names]) if len(names) <= NAMED else f"{len(names)} of its conditions"
        said.append(
            f"{model}: no run of {who} was made with the {PLACE_WORDS[place]} of a baseline run ({there}, where the baseline "
            f"has {here}). What that changes cannot be told from what the condition does; train both in one place."
        )
    return said


def summary(material: Material, model: str) -> Table:
    """Conditions, with means over runs: training loss and accuracy, test accuracy, and the gap between the two."""
    runs = outcomes(material, model)
    if runs[["train_loss", "train_accuracy", "test_accuracy"]].isna().all(axis=None):
        return Table([], [])
    counts = runs["condition"].value_counts()
    means = runs.groupby("condition")[["train_loss", "train_accuracy", "test_accuracy"]].mean()
    rows = []
    for condition in material.conditions(model)["condition"]:
        row = means.loc[condition]
        gap = row["train_accuracy"] - row["test_accuracy"]
        cells = [fixed(row[name]) for name in ("train_loss", "train_accuracy", "test_accuracy")]
        rows.append([told(condition), str(counts[condition]), *cells, fixed(gap, sign=True)])
    return Table(["condition", "runs", "training loss", "training accuracy", "test accuracy", "gap"], rows)


def curves(material: Material, model: str) -> Drawing:
    """Loss and accuracy against the step: one line per condition, in its family's colour."""
    history = material.histories.get(model, pd.DataFrame())
    if history.empty:
        return Drawing("The histories of these runs were not given to this report.")
    conditions = material.conditions(model)
    families = conditions.set_index("condition")["family"]
    scores = [name for name in ("loss", "accuracy") if history[name].notna().any()]
    figure, axes = canvas(WIDTH, 2.6, 1, len(scores))
    means = history.groupby(["condition", "step"])[scores].mean()
    for ax, score in zip(axes.flat, scores, strict=True):
        for condition in conditions["condition"][::-1]:  # the baseline on top
            if condition in means.index:
                line = means.loc[condition, score]
                base = families[condition] == "baseline"
                colour = material.palette.colour(families[condition])
                ax.plot(line.index, line, color=colour, lw=1.6 if base else 0.8, alpha=1 if base else 0.7)
        ax.set(title=f"training {score}", xlabel="step")
        ax.grid(color=FAINT, lw=0.4)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    chance = "accuracy" in scores and material.classes > 1
    if chance:
        axes[0, scores.index("accuracy")].axhline(1 / material.classes, color=INK, lw=0.6, ls=":")
    if "loss" in scores and (history["loss"] > 0).all():
        axes[0, scores.index("loss")].set_yscale("log")
        log_ticks(axes[0, scores.index("loss")].yaxis)
    family_legend(
        figure,
        material.palette,
        [name for name in material.families(model) if name in set(families[means.index.get_level_values(0)])],
    )
    seeds = history.groupby("condition")["seed"].nunique()
    caption = (
        f"{listing(scores).capitalize()} of the training batches, as the network is at the time, dropout on, against the "
        f"optimiser's step: a line per condition (mean of n = {counted(list(seeds))} each), the baseline thick"
        f"{'; dotted: chance' if chance else ''}. A curve that still "
        "falls at its end belongs to a network that is not done learning; a curve that never leaves its start, to one that "
        "learnt nothing."
    )
    return Drawing(caption, figure)


def facts(material: Material) -> dict[str, object]:
    return {"outcomes": {model: summary(material, model) for model in material.models}}


FIGURES = (Figure("training_curves", "Training curves", "loss and accuracy in training against the step", curves),)
SECTION = Section("training", "Training", FIGURES, facts)
