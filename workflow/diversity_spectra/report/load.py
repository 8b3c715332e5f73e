"""Reading what the report is made from: tables, a few images, a few spectra."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from diversity_spectra import imageset
from diversity_spectra.compare import TABLES
from diversity_spectra.errors import UserError
from diversity_spectra.execution import log
from diversity_spectra.jobs import read_record
from diversity_spectra.report.job import WriteReport
from diversity_spectra.report.material import Made, Material, Samples, Spectrum
from diversity_spectra.report.sections.spectra import PRETRAINED, esd_conditions, esd_layers
from diversity_spectra.report.style import Palette
from diversity_spectra.report.words import condition as told
from diversity_spectra.tables import read_table
from diversity_spectra.work import set_shape

NEEDED = ("runs", "conditions")
TEXTS = (("conditions", "kind"), ("controls", "condition"), ("robustness", "kind"))  # that may be empty
CLASSES = 10  # of which samples are shown
HISTORIES = 4  # runs of a condition whose training is shown
TILE = 64  # pixels of a sample's side, at most


def material(job: WriteReport) -> Material:
    """Everything that a job names. Raises `UserError` where the tables are missing."""
    tables = tables_in(Path(job.tables), TABLES, NEEDED)
    made = Material(tables, job.config, palette=Palette(job.look.palette))
    shown = _samples(job.images)
    spectra = {model: _spectra(made, model, job.spectra) for model in made.models}
    return Material(
        tables, made.config, shown, spectra, _histories(tables["runs"]), _made(tables["runs"], job.images), made.palette
    )


def tables_in(folder: Path, names: Iterable[str], needed: Iterable[str]) -> dict[str, pd.DataFrame]:
    """The tables of these names that a folder has. Raises `UserError` where one that is needed is missing."""
    tables = {name: table for name in names if (table := _table(folder, name)) is not None}
    missing = [name for name in needed if name not in tables]
    if missing:
        raise UserError(f"{folder}: no table {', '.join(missing)}; run stage compare first")
    if "details" not in tables.get("claims", {"details"}):
        raise UserError(f"{folder}: the table claims is of an earlier version; run stage compare again")
    # In CSV an empty text reads as a missing number, and the order of a Vendi score as a number.
    tables["conditions"] = tables["conditions"].astype({"strength": float})
    for name, column in TEXTS:
        if column in tables.get(name, ()):
            tables[name] = tables[name].astype({column: object}).fillna({column: ""})
    if "order" in tables.get("diversity", ()):
        orders = [f"{float(order):g}" for order in tables["diversity"]["order"]]
        tables["diversity"] = tables["diversity"].assign(order=orders)
    return tables


def _table(folder: Path, name: str) -> pd.DataFrame | None:
    for path in (folder / f"{name}.parquet", folder / f"{name}.csv"):
        if path.exists() and path.stat().st_size > 1:
            return read_table(path)
    return None


# ---------------------------------------------------------------- training


def _histories(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Loss and accuracy during training, by model, of the first runs of every condition that are still there."""
    parts: dict[str, list[pd.DataFrame]] = {}
    first = runs.sort_values("seed").groupby(["model", "condition"]).head(HISTORIES)
    for run in first.to_dict("records"):
        path = Path(str(run.get("folder", "")), "history.parquet")
        if path.is_file():
            rows = pd.read_parquet(path, columns=["step", "loss", "accuracy"])
            parts.setdefault(run["model"], []).append(rows.assign(condition=run["condition"], seed=run["seed"]))
    joined = {model: pd.concat(rows, ignore_index=True) for model, rows in parts.items()}
    return {model: rows[rows["step"] > 0] for model, rows in joined.items()}


def _made(runs: pd.DataFrame, images: dict[str, str]) -> Made | None:
    """What the records of the trainings that are still there say of when and where; None where there are none."""
    records = [read_record(Path(str(folder))) for folder in runs.get("folder", ())]
    records = [found for found in records if found and found.get("started") and found.get("ended")]
    if not records:
        return None
    times = [(datetime.fromisoformat(found["started"]), datetime.fromisoformat(found["ended"])) for found in records]
    seconds = sum((end - start).total_seconds() for start, end in times)
    first, last = min(start for start, _ in times), max(end for _, end in times)
    devices = dict(Counter(str(found.get("device") or "none") for found in records).most_common())
    sizes = {
        told(name): len(imageset.load(folder)) for name, folder in images.items() if Path(folder, "images.npy").exists()
    }
    return Made(f"{first:%Y-%m-%d %H:%M}", f"{last:%Y-%m-%d %H:%M}", seconds / 3600, devices, sizes)


# ---------------------------------------------------------------- images


def _samples(images: dict[str, str]) -> tuple[Samples, ...]:
    """Real images, augmented ones, synthetic images: 2, 1 and 3 rows. images: folders by training set.

    What was deleted from the cache since is left out, and the log says so: a colour is no reason to draw images again.
    """
    shown = []
    for name, folder in sorted(images.items(), key=lambda item: (item[0] != "plain", item[0] == "synthetic")):
        if set_shape(Path(folder)) is None:
            log.warning("%s is not there any more: no samples of it are shown", folder)
            continue
        row = {"plain": ("real", "baseline", 2), "synthetic": ("synthetic", "synthetic", 3)}
        title, family, rows = row.get(name, (told(name), "augmentation", 1))
        # One class has the same images in every row where the sets allow it, so that rows can be compared.
        shown.append(pick(title, family, imageset.load(folder), rows))
    return tuple(shown)


def pick(name: str, family: str, images: imageset.ImageSet, rows: int) -> Samples:
    """The first images of each of the first classes, thinned to at most TILE pixels a side."""
    classes = images.classes[:CLASSES]
    step = max(1, -(-max(images.images.shape[1:3]) // TILE))
    shape = images.images[:1, ::step, ::step].shape[1:]
    tiles = np.full((len(classes), rows, *shape), 255, dtype=np.uint8)
    for label in range(len(classes)):
        for row, index in enumerate(np.flatnonzero(images.labels == label)[:rows]):
            tiles[label, row] = images.images[index, ::step, ::step]
    return Samples(
        name, family, tiles, [str(label) for label in classes], () if family == "augmentation" else _notes(images)
    )


def _notes(images: imageset.ImageSet) -> tuple[str, ...]:
    """What is to be said of an image set: images per class where classes differ, and what its stage noted."""
    found = imageset.per_class(images.labels, images.classes)
    few, many = min(found, key=found.get), max(found, key=found.get)
    sizes = [] if found[few] == found[many] else [f"from {found[few]} images of {few} to {found[many]} of {many}"]
    return *sizes, *images.meta.get("notes", [])


# ---------------------------------------------------------------- spectra


def _spectra(made: Material, model: str, folders: dict[str, str]) -> list[Spectrum]:
    """The first seed of the conditions and layers that are drawn, and the pretrained network where there is one."""
    table = made.spectra_of(model)
    if table.empty or not folders:
        return []
    layers = esd_layers(table)
    conditions = made.conditions(model)
    baseline = conditions.loc[conditions["family"] == "baseline", "condition"].head(1)
    wanted = [*baseline, *(name for names in esd_conditions(conditions).values() for name in names)]
    found: list[Spectrum] = []
    for condition in wanted:
        own = table[table["condition"] == condition]
        if own.empty or f"{model}/{condition}" not in folders:
            continue
        seed = int(own["seed"].min())
        run = Path(folders[f"{model}/{condition}"]) / f"seed-{seed}"
        if not (run / "eigenvalues.npz").is_file():
            continue
        rows = own[own["seed"] == seed].drop_duplicates("layer").set_index("layer")
        with np.load(run / "eigenvalues.npz") as file:
            for layer in layers:
                key = f"{layer}|{rows['matrix'].get(layer)}"
                if key in file.files:
                    fit = rows.loc[layer, ["alpha", "xmin"]].astype(float)
                    found.append(Spectrum(condition, layer, file[key], *fit))
    if found and made.matrix(model) == "W":
        found += _pretrained(Path(folders[f"{model}/{wanted[0]}"]) / "seed-0", layers, table)
    return found


def _pretrained(run: Path, layers: list[str], table: pd.DataFrame) -> list[Spectrum]:
    """Spectra of the weights that training started from, analysed here as the runs were: no stage keeps them."""
    spec = read_record(run)
    start = spec and spec["inputs"].get("pretrained")
    weights = Path(start or "", "model.safetensors")
    if not start or not weights.is_file():
        return []
    from diversity_spectra.spectra.options import Options
    from diversity_spectra.spectra.table import analyse

    parameters = table.loc[table["layer"].isin(layers), "parameter"].drop_duplicates()
    try:
        result = analyse(
            weights, options=Options(**{**spec["settings"]["analysis"], "include": tuple(parameters), "bootstrap": 0})
        )
    except UserError:
        return []  # the pretrained file names its matrices in another way
    rows = result.rows.drop_duplicates("layer").set_index("layer")
    return [
        Spectrum(
            PRETRAINED, layer, result.eigenvalues[f"{layer}|W"], float(rows["alpha"][layer]), float(rows["xmin"][layer])
        )
        for layer in layers
        if f"{layer}|W" in result.eigenvalues
    ]
