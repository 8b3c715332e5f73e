"""Images, the diversity of every training set, and the quality of synthetic images."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from diversity_spectra.compare.metric import of_sets
from diversity_spectra.report.material import Material, Samples, in_order, summarise
from diversity_spectra.report.section import Figure, Section
from diversity_spectra.report.style import FAINT, MUTED, WIDTH, Drawing, canvas, family_legend, marker
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import NOTHING, counted, interval, listing, plain
from diversity_spectra.report.words import condition as told
from diversity_spectra.report.words import kernel as kernel_name

DENSE = 2000  # points of one panel beyond which they are drawn as pixels in the SVG
QUALITY = {
    "frechet_distance": "Fréchet distance to the real images (0 = same distribution; falls with more images)",
    "kernel_distance": "kernel distance to the real images (0 = same distribution)",
    "precision": "precision: share of synthetic images that look like real ones",
    "recall": "recall: share of real images that the synthetic ones reach",
    "density": "density: how crowded real neighbourhoods are with synthetic images (1 = as real ones)",
    "coverage": "coverage: share of real neighbourhoods with a synthetic image",
    "near_copies_train_pixel": "near-copies of training images, in pixels",
    "near_copies_train_embedding": "near-copies of training images, in the embedding",
    "near_copies_test_pixel": "near-copies of test images, in pixels",
    "near_copies_test_embedding": "near-copies of test images, in the embedding",
}
for _space, _where in (("pixel", "in pixels"), ("embedding", "in the embedding")):
    QUALITY |= {
        f"wvs_{_space}": f"the study's weighted Vendi score, {_where}: Vendi score times rho",
        f"rho_{_space}": f"its rho, {_where}: likeness to the plain set, image by image in the order of files",
        f"wvs_by_class_{_space}": f"weighted Vendi score by class, {_where}: depends on no order of files",
        f"rho_by_class_{_space}": f"its rho, {_where}: likeness of the class means to those of the plain set",
    }


def sample_grids(material: Material, _: str = "") -> Drawing:
    """One band per image set, one column per class."""
    if not material.samples:
        return Drawing("No images are shown: the image sets were not given to this report.")
    rows = [len(samples.images[0]) for samples in material.samples]
    classes = material.samples[0].classes
    figure, axes = canvas(
        WIDTH, 0.35 + sum(rows) * WIDTH * 0.82 / max(len(classes), 6), len(rows), 1, height_ratios=rows
    )
    for position, (samples, ax) in enumerate(zip(material.samples, axes.flat, strict=True)):
        mosaic, tile = tiled(samples)
        ax.imshow(mosaic, interpolation="nearest", aspect="equal")
        ax.set_xticks([tile * (k + 0.5) - 0.5 for k in range(len(classes))], classes if position == 0 else [])
        ax.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
        if max(map(len, classes)) > 6:
            ax.tick_params(axis="x", labelrotation=45)
        ax.set_yticks([])
        ax.set_anchor("E")  # what the images leave of the width is for the names
        ax.set_ylabel(samples.name, rotation=0, ha="right", va="center")
        for side in ax.spines.values():
            side.set_visible(False)
        ax.spines["left"].set(visible=True, color=material.palette.colour(samples.family), linewidth=2)
    caption = (
        f"Images of {len(classes)} classes, one column each, as the networks see them in training: "
        f"{listing([samples.name for samples in material.samples])}. "
        "Look for two things: do the images still show their class, and how unlike are the images of one column?"
    )
    return Drawing(caption, figure)


def tiled(samples: Samples) -> tuple[np.ndarray, int]:
    """Images (classes, k, H, W, C) side by side with a white gap, (rows, columns[, 3]), and the width of a tile."""
    images = np.pad(samples.images, [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)], constant_values=255)
    count, k, height, width, channels = images.shape
    mosaic = images.transpose(1, 2, 0, 3, 4).reshape(k * height, count * width, channels)
    return (np.repeat(mosaic, 3, axis=2) if channels == 1 else mosaic[..., :3]), width


def diversity(material: Material, _: str = "") -> Drawing:
    """Vendi score of every training set: a dot per class, the mean over classes with its interval; a row per network where
    networks have scores of their own."""
    table = material.table("diversity")
    if table.empty:
        return Drawing("The diversity of the training sets was not measured.")
    order = "1" if "1" in set(table["order"].astype(str)) else str(table["order"].iloc[0])
    table = table[table["order"].astype(str) == order]
    families = set_families(material)
    sets = [name for name in families if name in set(table["training_set"])]
    kernels, owners = list(dict.fromkeys(table["kernel"])), _owners(material)
    figure, axes = canvas(WIDTH, 0.8 + (0.4 + 0.2 * len(sets)) * len(owners), len(owners), len(kernels), sharey=True)
    for (owner, panel), row in zip(owners.items(), axes, strict=True):
        panel = panel[panel["order"].astype(str) == order]
        for ax, kernel in zip(row, kernels, strict=True):
            _scores(ax, panel[panel["kernel"] == kernel], sets, families, material)
            ax.set_title(", ".join(filter(None, (kernel_name(kernel), owner))))
    for ax in axes[-1]:
        ax.set_xlabel(f"Vendi score, order {order}")
    axes[0, 0].set_ylim(len(sets) - 0.5, -0.5)
    used = [family for family in dict.fromkeys(families[name] for name in sets) if family != "baseline"]
    family_legend(figure, material.palette, used)
    by_class = (table["label"] == "mean").any()
    counts = table["n"].dropna().unique() if "n" in table else []
    per_class = f"n = {int(min(counts))} images per class" if len(counts) else "the same number of images per class"
    marks = (
        f"Small dots: the {material.classes} classes; large marks: their mean, with the interval over random subsamples "
        f"({per_class})."
        if by_class
        else "Marks: the score of all images together, with its interval where one is known."
    )
    dashed = (
        "The dashed line is the plain training set: marks to its right are more diverse. "
        if sets and families[sets[0]] == "baseline"
        else ""
    )
    caption = (
        f"How diverse each of {len(sets)} training sets is (the effective number of different images"
        f"{' in a class' if by_class else ''}), in {counted([len(kernels)], 'space')} of comparison. {marks} {dashed}"
        "The spaces need not agree: pixel noise is diversity to pixels, not to an embedding."
        + (" Hollow: the synthetic images alone, not a training set." if "synthetic" in sets else "")
    )
    return Drawing(caption, figure)


def _owners(material: Material) -> dict[str, pd.DataFrame]:
    """Scores by the network that they belong to, where networks were trained on sets of their own; else under no name."""
    table = material.table("diversity")
    if "model" not in table:
        return {"": table}
    return {model: own for model in material.models if len(own := material.table("diversity", model))}


def _scores(ax: Axes, rows: pd.DataFrame, sets: list[str], families: dict[str, str], material: Material) -> None:
    """One panel: the scores in one space, sets down."""
    marks = of_sets(rows)
    classes = rows[~rows["label"].isin(["mean", "overall"])]
    for place, name in enumerate(sets):
        colour = material.palette.colour(families[name])
        own = classes[classes["training_set"] == name]
        ax.scatter(
            own["score"], np.full(len(own), place), s=7, color=colour, alpha=0.45, linewidths=0, zorder=2,
            rasterized=len(sets) * len(own) > DENSE,
        )  # fmt: skip
        look = {"color": colour, "mfc": "white" if name == "synthetic" else colour, "ms": 5, "zorder": 4}
        for row in marks[marks["training_set"] == name].itertuples():
            ax.plot([row.low, row.high], [place, place], color=colour, lw=1.4, zorder=3)
            ax.plot(row.score, place, marker(families[name]), **look)
            if place == 0 and families[name] == "baseline":
                ax.axvline(row.score, color=MUTED, lw=0.6, ls=(0, (4, 3)), zorder=1)
    ax.set_yticks(range(len(sets)), [set_label(name) for name in sets])
    ax.grid(axis="y", color=FAINT, lw=0.5)
    ax.margins(x=0.08)
    if rows["score"].notna().any():
        # No score is below 1, though an interval from very few subsamples may be.
        ax.set_xlim(left=max(ax.get_xlim()[0], 0.9))


def scores(material: Material) -> Table:
    """Vendi scores: mean over classes for each kernel and order, and over all images; by network where they differ."""
    table = material.table("diversity")
    if table.empty:
        return Table([], [])
    kernels, orders = list(dict.fromkeys(table["kernel"])), list(dict.fromkeys(table["order"].astype(str)))
    columns = [(name, order, "mean") for name in kernels for order in orders if (table["label"] == "mean").any()]
    columns += [(name, orders[0], "overall") for name in kernels]
    owners, rows = _owners(material), []
    for owner, own in owners.items():
        places = ["training_set", "kernel", "order", "label"]
        known = own.assign(order=own["order"].astype(str)).drop_duplicates(places).set_index(places)
        for name in set_families(material):
            if name not in set(own["training_set"]):
                continue
            cells = [
                interval(*known.loc[(name, *key), ["score", "low", "high"]].astype(float), 2) if (name, *key) in known.index
                else NOTHING for key in columns
            ]  # fmt: skip
            rows.append([*filter(None, [owner]), set_label(name), *cells])
    head = [
        f"{kernel_name(name)}, {'per class' if label == 'mean' else 'all classes together'}, order {order}"
        for name, order, label in columns
    ]
    words = ["network", "training set"] if any(owners) else ["training set"]
    return Table([*words, *head], rows, len(words))


def quality(material: Material) -> Table:
    """Synthetic images against real ones."""
    table = material.table("quality")
    if len(table):
        table = table[(table["training_set"] == "synthetic") & table["label"].isin(["mean", "overall"])]
    rows = []
    for row in table.to_dict("records"):
        digits = 3 if abs(row["value"]) < 10 else 1
        text = QUALITY.get(row["measure"], plain(row["measure"]))
        unit = "images" if row["measure"].startswith("near_copies") else "images per class"
        rows.append([text, interval(row["value"], row["low"], row["high"], digits), f"{int(row['n'])} {unit}"])
    return Table(["measure", "value", "n"], [*rows, *_agreement(material)])


def _agreement(material: Material) -> list[list[str]]:
    """How often plainly trained networks see in a synthetic image the class that it was made for."""
    rows = []
    for model in material.models:
        conditions, table = material.conditions(model), material.table("evaluation", model)
        baseline = conditions.loc[conditions["family"] == "baseline", "condition"]
        own = table[(table["shift"] == "synthetic") & table["condition"].isin(baseline)] if len(table) else table
        for row in summarise(own, "accuracy", material.level).itertuples() if len(own) else ():
            text = f"label agreement: {model}, trained on no synthetic image, sees the class that was asked for"
            rows.append([text, interval(row.mean, row.low, row.high), counted([row.n])])
    return rows


def notes(material: Material) -> list[tuple[str, str]]:
    """Image set and a sentence on it, of every one that needs some."""
    return [(samples.name, note) for samples in material.samples for note in samples.notes] + _test_copies(material)


def _test_copies(material: Material) -> list[tuple[str, str]]:
    """How many test images look like training images."""
    table = material.table("quality")
    if len(table):
        judged = (table["measure"] == "near_copies_train_pixel") & (table["training_set"] == "plain")
        table = table[judged & (table["label"] == "overall")]
    return [
        (
            "test",
            f"{round(row.value * row.n):,} of {int(row.n):,} test images lie as near to a training image, in pixels, as the"
            " nearest 1 % of training images to one another; 1 in 100 would by chance",
        )
        for row in table.itertuples()
    ]


def set_families(material: Material) -> dict[str, str]:
    """Training set -> family of the condition that it belongs to; the plain one first, synthetic images alone last."""
    conditions = in_order(pd.concat([material.conditions(model) for model in material.models], ignore_index=True))
    plain = set(conditions.loc[conditions["family"] == "baseline", "training_set"])
    families = dict.fromkeys(plain, "baseline")
    for row in conditions.itertuples():
        families.setdefault(row.training_set, row.family)
    for name in material.table("diversity")["training_set"].unique() if len(material.table("diversity")) else ():
        families.setdefault(name, "synthetic" if name == "synthetic" else "baseline")
    return families


def set_label(name: str) -> str:
    return "synthetic images alone" if name == "synthetic" else told(name)


def facts(material: Material) -> dict[str, object]:
    return {"notes": notes(material), "scores": scores(material), "quality": quality(material)}


FIGURES = (
    Figure(
        "sample_grids",
        "Sample images",
        "images as the networks see them in training: real, under each augmentation at its strongest level, and synthetic",
        sample_grids,
        per_model=False,
    ),
    Figure(
        "diversity",
        "Diversity of the training sets",
        "Vendi score of every training set, the effective number of different images in a class, by kernel",
        diversity,
        per_model=False,
    ),
)
SECTION = Section("data", "Data", FIGURES, facts)
