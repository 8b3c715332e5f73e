"""Command `import-weightwatcher`: tables of WeightWatcher of finished trainings, anybody's, as the tables of an experiment."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from diversity_spectra.compare.collect import family_of
from diversity_spectra.conditions import FAMILIES
from diversity_spectra.errors import UserError
from diversity_spectra.execution import log
from diversity_spectra.settings import Name, Settings, key, read_yaml, validate
from diversity_spectra.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = """examples:
  diversity-spectra import-weightwatcher my-tables --pattern '{model}/{condition}-{seed}.csv' --out results/mine/tables
  diversity-spectra import-weightwatcher CLONE --mapping docs/published-tables.yaml --out results/published/tables
  diversity-spectra report --tables results/published/tables --out results/published

A pattern says where model, condition and seed stand in the files' paths; conditions are called as here: baseline,
dropout-0.3, weight_decay-0.001, augmentation-rotation-10. A mapping names every condition's files, and its accuracy."""

Text = Annotated[str, Field(min_length=1)]
SCORES = ("accuracy", "ece")
KERNELS = ("embedding", "pixel")


class Set(Settings):
    """The tables of one network on one data set; `{file}` in a path stands for what a condition's files are called."""

    name: Name = key(description="name of the network and its data")
    after: Text = key(description="table of a run after training, `{file}` and perhaps `{seed}` in it")
    before: Text | None = key(None, description="table of the same run before training")
    accuracy: Text | None = key(
        None,
        description="table by condition: accuracy on the test set, % or share; a row per `seed` if there are several",
    )
    ece: Text | None = key(None, description="table by condition: expected calibration error, likewise")
    embedding: Text | None = key(None, description="table of one row: Vendi score in an embedding by condition")
    pixel: Text | None = key(None, description="table of one row: Vendi score of pixels by condition")


class Imported(Settings):
    """A condition, and what its files and columns are called."""

    file: Text = key(description="what stands for `{file}`")
    column: str = key("", description="its column in the tables of one row; empty = as `file`")
    condition: Text = key(description="name of the condition")
    family: str = key(description="baseline, dropout, weight_decay, augmentation or synthetic")
    kind: str = key("", description="kind of augmentation")
    strength: float | None = key(None, description="dropout rate, decay, level")


class Mapping(Settings):
    """Which file is which run."""

    sets: list[Set] = key(min_length=1, description="networks and data sets")
    conditions: list[Imported] = key(min_length=1, description="the conditions, the same for all")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument(
        "folder", type=Path, help="folder with the tables (.csv or .parquet, WeightWatcher 0.5 to 0.7.7)"
    )
    parser.add_argument("--pattern", help="path of a table in it, with {model}, {condition} and {seed}")
    parser.add_argument("--mapping", type=Path, help="YAML file that says which file is which run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")


def run(arguments: argparse.Namespace) -> None:
    from diversity_spectra.compare.command import write_tables
    from diversity_spectra.compare.options import Options
    from diversity_spectra.compare.study import compare

    if not arguments.folder.is_dir():
        raise UserError(f"{arguments.folder}: no such folder")
    if bool(arguments.pattern) == bool(arguments.mapping):
        raise UserError("give --pattern or --mapping, one of them; see --help")
    if arguments.mapping:
        mapping = validate(Mapping, read_yaml(arguments.mapping), str(arguments.mapping))
        tables = from_mapping(arguments.folder, mapping)
    else:
        tables = from_pattern(arguments.folder, arguments.pattern)
    runs = len(tables["runs"])
    log.info("%d runs of %d networks in %s", runs, tables["runs"]["model"].nunique(), arguments.folder)
    options = Options(matrix="W")  # there is nothing but W in such tables
    write_tables(arguments.out, tables | compare(tables, options), options)
    log.info("wrote %s; next: diversity-spectra report --tables %s --out FOLDER", arguments.out, arguments.out)


# ---------------------------------------------------------------- which file is which run


def from_pattern(folder: Path, pattern: str) -> dict[str, pd.DataFrame]:
    """Files whose paths fit the pattern; without `{model}` all are of the network `network`, without `{seed}` of seed 0."""
    if "{condition}" not in pattern:
        raise UserError(f"--pattern {pattern!r}: no {{condition}} in it")
    expression = _expression(pattern)
    found, conditions = [], {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (match := expression.fullmatch(path.relative_to(folder).as_posix())):
            parts = match.groupdict()
            model, seed = parts.get("model", "network"), int(parts.get("seed", 0))
            conditions[model, parts["condition"]] = _named(parts["condition"], path)
            found.append((model, parts["condition"], seed, path, None))
    if not found:
        raise UserError(f"{folder}: no file fits {pattern!r}")
    return _tables(found, [(model, one) for (model, _), one in conditions.items()], [])


def from_mapping(folder: Path, mapping: Mapping) -> dict[str, pd.DataFrame]:
    unknown = sorted({one.family for one in mapping.conditions} - set(FAMILIES))
    if unknown:
        raise UserError(f"conditions: no family {unknown[0]!r}; allowed: {', '.join(FAMILIES)}")
    found, conditions, measured = [], [], []
    for each in mapping.sets:
        for one in mapping.conditions:
            runs = list(_runs(folder, each, one))
            if not runs:
                raise UserError(f"{folder / each.after.replace('{file}', one.file)}: no such table")
            found += [(each.name, one.condition, *run) for run in runs]
            conditions.append((each.name, one))
        measured += _measured(folder, each, mapping.conditions)
    return _tables(found, conditions, measured)


def _runs(folder: Path, each: Set, one: Imported) -> Iterator[tuple[int, Path, Path | None]]:
    """Seed, table after and table before training of each run."""
    after, before = (path and path.replace("{file}", one.file) for path in (each.after, each.before))
    if "{seed}" not in after:
        if (folder / after).is_file():
            yield 0, folder / after, before and folder / before
        return
    expression = _expression(after)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (match := expression.fullmatch(path.relative_to(folder).as_posix())):
            yield int(match["seed"]), path, before and folder / before.replace("{seed}", match["seed"])


def _expression(pattern: str) -> re.Pattern:
    groups = {"model": "[^/]+", "condition": "[^/]+?", "seed": r"\d+"}
    pieces = re.split(r"\{(\w+)\}", pattern)
    for name in pieces[1::2]:
        if name not in groups:
            raise UserError(
                f"pattern {pattern!r}: {{{name}}} is not known; allowed: {{model}}, {{condition}}, {{seed}}"
            )
    return re.compile(
        "".join(
            f"(?P<{piece}>{groups[piece]})" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)
        )
    )


def _named(condition: str, path: Path) -> Imported:
    """`augmentation-rotation-10`: family, kind, strength. Raises `UserError` where the name does not tell."""
    read = family_of(condition)
    if read["family"] == "checkpoint" and not condition.startswith("checkpoint"):
        raise UserError(
            f"{path}: no family can be read off the name {condition!r}; call it baseline, dropout-0.3, weight_decay-0.001,"
            " augmentation-rotation-10, synthetic-0.5 or the like"
        )
    strength = None if math.isnan(read["strength"]) else read["strength"]
    return Imported(file=condition, condition=condition, **read | {"strength": strength})


# ---------------------------------------------------------------- tables


def _tables(
    found: list[tuple], conditions: list[tuple[str, Imported]], measured: list[dict]
) -> dict[str, pd.DataFrame]:
    """runs, conditions, diversity, evaluation and spectra."""
    import pandas as pd

    from diversity_spectra.compare.layer_shifts import BEFORE

    spectra = []
    for model, condition, seed, after, before in found:
        identity = {"model": model, "condition": condition, "seed": seed}
        for path, matrix in ((after, "W"), (before, BEFORE)):
            if path is not None:
                spectra.append(rows_of(path).assign(**identity, matrix=matrix, convention="weightwatcher"))
    spectra = pd.concat(spectra, ignore_index=True)
    first = ["model", "condition", "seed", "layer", "depth", "matrix", "convention"]
    runs = pd.DataFrame([one[:3] for one in found], columns=first[:3]).assign(diverged=False, kappa=1.0)
    counts = runs.groupby(["model", "condition"]).size()
    rows = [
        {
            "model": model, "condition": one.condition, "family": one.family, "kind": one.kind, "strength": one.strength,
            "training_set": _training_set(one), "dropout": one.strength if one.family == "dropout" else 0.0,
            "weight_decay": one.strength if one.family == "weight_decay" else 0.0,
            "synthetic": one.strength if one.family == "synthetic" else 0.0, "runs": int(counts[model, one.condition]),
        }
        for model, one in conditions
    ]  # fmt: skip
    numbers = dict.fromkeys(("strength", "dropout", "weight_decay", "synthetic"), float)
    kept = ["model", "condition", "seed", "set", "shift", "accuracy", "ece"]
    scores = ["model", "training_set", "kernel", "order", "label", "score", "low", "high", "n"]
    return {
        "runs": runs,
        "conditions": pd.DataFrame(rows).astype(numbers),
        "diversity": pd.DataFrame([row for row in measured if "kernel" in row], columns=scores),
        "evaluation": pd.DataFrame([row for row in measured if "set" in row], columns=kept),
        "spectra": spectra[[*first, *(name for name in spectra if name not in first)]],
    }


def _training_set(one: Imported) -> str:
    return one.condition.removeprefix("augmentation-") if FAMILIES[one.family].role == "data" else "plain"


def rows_of(path: Path) -> pd.DataFrame:
    """The rows of a table of WeightWatcher with our names: layer, depth, and its measures as they are.

    Raises `UserError` for a file that is no such table.
    """
    import pandas as pd

    from diversity_spectra import columns

    try:
        table = read_table(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a table ({str(error).splitlines()[0]})") from None
    lacking = [name for name in ("layer_id", "alpha") if name not in table]
    if lacking:
        raise UserError(f"{path}: no table of WeightWatcher: no column {', '.join(lacking)}")
    names = next(
        (table[name].astype(str) for name in ("longname", "name") if name in table), table["layer_id"].astype(str)
    )
    again = names.duplicated(keep=False)
    table["layer"] = names.where(~again, names + "[" + table["layer_id"].astype(str) + "]")
    table["depth"] = range(len(table))
    if "num_evals" not in table and {"N", "M"} <= set(table):
        table["num_evals"] = table[["N", "M"]].min(axis=1) * table.get("rf", 1)
    if "status" not in table:
        table["status"] = (table["alpha"] <= 0).map({True: "failed", False: "success"})
    known = columns.names("spectra") | {"num_evals", "status"}
    table = table[[name for name in table if name in known and name not in ("model", "condition", "seed", "name")]]
    numbers = [name for name in table if name not in ("layer", "status", "warning", "layer_type")]
    return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in numbers})


def _measured(folder: Path, each: Set, conditions: list[Imported]) -> Iterator[dict]:
    """Rows of `evaluation` and of `diversity` from the tables by condition."""
    import pandas as pd

    values = {
        name: _by_seed(folder / path, several=name in SCORES and "{seed}" in each.after)
        for name in (*SCORES, *KERNELS)
        if (path := getattr(each, name))
    }
    if "accuracy" in values and values["accuracy"].max(axis=None) > 1:
        values["accuracy"] = values["accuracy"] / 100
    for one in conditions:
        column, identity = one.column or one.file, {"model": each.name}
        known = {name: table[column] for name, table in values.items() if column in table}
        for seed, row in pd.DataFrame({name: known[name] for name in SCORES if name in known}).iterrows():
            named = {"condition": one.condition, "seed": seed, "set": "test", "shift": "none"}
            yield identity | named | dict.fromkeys(SCORES, float("nan")) | row.to_dict()
        for kernel in KERNELS:
            if kernel in known:
                named = {"training_set": _training_set(one), "kernel": kernel, "order": "1", "label": "overall"}
                yield identity | named | {"score": known[kernel].iloc[0]}


def _by_seed(path: Path, several: bool) -> pd.DataFrame:
    """The rows of a table by their column `seed`; without one, its first row is that of seed 0, where there are not several."""
    table = read_table(path)
    if not len(table):
        raise UserError(f"{path}: no row")
    if "seed" not in table:
        if several:
            raise UserError(f"{path}: no column seed; runs have seeds (`after`), so give each of them its row")
        table = table[:1].assign(seed=0)
    return table.astype({"seed": int}).set_index("seed").astype(float)
