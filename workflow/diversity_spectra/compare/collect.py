"""`diversity-spectra collect`: checkpoints of anybody's training become an experiment: tables, comparison, report."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.conditions import FAMILIES
from diversity_spectra.errors import UserError
from diversity_spectra.spectra.progress import Progress, processors

if TYPE_CHECKING:
    import pandas as pd

    from diversity_spectra.compare.options import Options

EPILOG = """\
A condition's family is read off its name: baseline (or plain), dropout-0.3, weight_decay-0.1, synthetic-0.5, steps-2,
rotation-15 or another kind of augmentation. Others are named in --conditions, a CSV with the columns condition, family
and, where they have one, kind and strength; else they are compared, but no claim counts them.
--runs is a CSV with the columns condition, seed and any of accuracy, ece, set, shift (none, natural, corruption),
train_loss, train_accuracy, steps, kappa (the product of 1 - learning rate x decay, which is then taken out).
With {step} the last step is compared, and all are drawn against the step.

example:
  diversity-spectra collect runs/ --pattern "{condition}/seed-{seed}.pt" --runs accuracy.csv --out results/mine
"""
FIELDS = {"model": r"[^/]+?", "condition": r"[^/]+?", "seed": r"\d+", "step": r"\d+"}
CLASSIFIER = re.compile(r"(^|\.)(head|heads|fc|classifier|logits|last_linear)(\.|$)")
MEASURED = ["set", "shift", "accuracy", "ece", "nll", "brier"]
TRACED = ("alpha", "stable_rank", "entropy", "log_spectral_norm")


@dataclass(frozen=True)
class Checkpoint:
    """One file of weights: of which run, after which step (-1: not known)."""

    path: Path
    model: str
    condition: str
    seed: int
    step: int


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add("folder", type=Path, metavar="RUNS", help="folder with the checkpoints")
    add(
        "--pattern",
        required=True,
        help="their paths in it, with {condition}, {seed} and, if need be, {model} and {step}",
    )
    add("--out", type=Path, required=True, metavar="FOLDER", help="for tables/, figures/ and report.html")
    add(
        "--reference",
        type=Path,
        metavar="WEIGHTS",
        help="what training started from: adds its change dW, which is then what is compared",
    )
    add("--runs", type=Path, metavar="CSV", help="accuracy and what else is known of the runs")
    add("--conditions", type=Path, metavar="CSV", help="families of conditions whose names do not tell")
    add(
        "--diversity",
        type=Path,
        metavar="TABLE",
        help="Vendi scores as `diversity` writes them, with a column condition",
    )
    add("--baseline", metavar="NAME", help="the condition that all are compared with")
    add("--options", default="{}", help="of the comparison, as JSON; those left out keep their defaults")
    add("--title", default="", help="heading of the report")
    add("--key", help="which state dict of a PyTorch file (keys joined by dots)")
    add("--reference-key", metavar="KEY", help="which state dict of the reference's PyTorch file")
    add("--threads", type=int, default=processors(), metavar="N", help="matrices at a time")


def run(arguments: argparse.Namespace) -> None:
    from diversity_spectra.compare.command import read_options, write_tables
    from diversity_spectra.compare.study import compare
    from diversity_spectra.tables import write_both

    options = read_options(arguments.options)
    if not arguments.reference:  # of the weights alone there is no change
        options = replace(options, matrix="W")
    found = find(arguments.folder, arguments.pattern)
    given = _read(arguments.conditions, ["condition", "family"])
    conditions = classified({one.condition for one in found}, given, arguments.baseline)
    measured = _read(arguments.runs, ["condition", "seed"])
    # All that may be refused comes before the work.
    tables = {
        "runs": runs_table(found, measured),
        "conditions": conditions_table(found, conditions),
        "evaluation": evaluation_table(found, measured),
        "diversity": _diversity(arguments.diversity),
    }
    out = arguments.out
    (out / "tables").mkdir(parents=True, exist_ok=True)
    spectra = _analysed(found, tables["runs"], arguments)
    last = spectra.groupby(["model", "condition", "seed"])["step"].transform("max")
    tables["spectra"] = spectra[spectra["step"] == last].drop(columns="step")
    tables |= compare(tables, options)
    write_tables(out / "tables", tables, options)
    if any(one.step >= 0 for one in found):
        trajectory = spectra[["model", "condition", "seed", "step", "layer", "depth", "matrix", *TRACED]]
        write_both(out / "tables", "trajectory", trajectory)
        families = tables["conditions"][["model", "condition", "family"]]
        _draw_trajectory(trajectory.merge(families), out / "figures")
        print(f"against the step: {out / 'figures/trajectory.svg'}")
    _report(arguments, options, {(one.model, one.condition) for one in found})
    other = [name for name, row in conditions.items() if row["family"] == "checkpoint"]
    if other:
        print(f"of no known family, so no claim counts them (--conditions): {', '.join(sorted(other))}")
    print(f"{len({(one.model, one.condition, one.seed) for one in found})} runs, {len(conditions)} conditions")
    print(f"report: {out / 'report.html'}")


# ---------------------------------------------------------------- what there is


def find(folder: Path, pattern: str) -> list[Checkpoint]:
    """Checkpoints whose path below `folder` fits the pattern, in order. Raises `UserError` where none does.

    Fields in braces stand for a part of a path: {model}, {condition}, {seed} and {step}; the latter two are whole numbers.
    """
    fields = re.findall(r"{(\w*)}", pattern)
    if unknown := [name for name in fields if name not in FIELDS]:
        raise UserError(
            f"--pattern: {{{unknown[0]}}} is not known, allowed: {', '.join(f'{{{name}}}' for name in FIELDS)}"
        )
    if lacking := [name for name in ("condition", "seed") if name not in fields]:
        raise UserError(f"--pattern: {{{lacking[0]}}} is missing, as in '{{condition}}/seed-{{seed}}.safetensors'")
    text = re.escape(pattern.strip("/")).replace(r"\{", "{").replace(r"\}", "}")
    for name in dict.fromkeys(fields):
        text = text.replace(f"{{{name}}}", f"(?P<{name}>{FIELDS[name]})", 1).replace(f"{{{name}}}", f"(?P={name})")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    matches = [(path, re.fullmatch(text, path.relative_to(folder).as_posix())) for path in files]
    found = [
        Checkpoint(
            path, parts.get("model", "network"), parts["condition"], int(parts["seed"]), int(parts.get("step", -1))
        )
        for path, match in matches
        if match and (parts := match.groupdict())
    ]
    if not found:
        example = f"; there is {files[0].relative_to(folder)}" if files else ", which is empty"
        raise UserError(f"--pattern: no file below {folder} fits {pattern}{example}")
    runs: dict[tuple, Path] = {}
    for one in found:
        run = (one.model, one.condition, one.seed, one.step)
        if run in runs:
            raise UserError(f"--pattern: {runs[run]} and {one.path} are both {one.condition}, seed {one.seed}")
        runs[run] = one.path
    return found


ALIASES = {
    "plain": "baseline",
    "vanilla": "baseline",
    "wd": "weight_decay",
    "steps": "optimisation",
    "lr": "optimisation",
    "label_smoothing": "optimisation",
    "synthetic_replaced": "synthetic",
}


def family_of(name: str) -> dict:
    """Family, kind and strength by a condition's name; family `checkpoint` where it does not tell.

    >>> family_of("dropout-0.3")
    {'family': 'dropout', 'kind': '', 'strength': 0.3}
    """
    if "+" in name:
        return {"family": "combinations", "kind": "", "strength": math.nan}
    head, number = re.fullmatch(r"(.*?)(?:[-_=]?(\d+(?:\.\d+)?(?:e-?\d+)?)x?)?", name).groups()
    strength = float(number) if number else math.nan
    words = head.removeprefix("augmentation").strip("-_=").replace("-", "_")
    if words in KINDS or name.startswith("augmentation-"):  # a composed one has a name of its own
        return {"family": "augmentation", "kind": words, "strength": strength}
    family = ALIASES.get(words, words)
    if family in FAMILIES and (family == "baseline") == (not number):
        kinds = {"optimisation": words, "synthetic": "replaced" if words.endswith("replaced") else "added"}
        return {"family": family, "kind": kinds.get(family, ""), "strength": strength}
    return {"family": "checkpoint", "kind": "", "strength": math.nan}


def classified(names: Iterable[str], given: pd.DataFrame | None, baseline: str | None) -> dict[str, dict]:
    """Family, kind and strength of every condition. Raises `UserError` for a family that is none, or no single baseline."""
    rows = {} if given is None else {str(row["condition"]): row for row in given.to_dict("records")}
    result = {}
    for name in sorted(names):
        if name == baseline:
            result[name] = {"family": "baseline", "kind": "", "strength": math.nan}
            continue
        row = {**family_of(name), **{key: value for key, value in rows.get(name, {}).items() if value == value}}
        if row["family"] not in FAMILIES:
            raise UserError(f"--conditions: {name}: family is {row['family']}, allowed: {', '.join(FAMILIES)}")
        if row["family"] == "baseline" and baseline is not None:
            row["family"] = "checkpoint"
        result[name] = {"family": row["family"], "kind": str(row["kind"]), "strength": float(row["strength"])}
    plain = [name for name, row in result.items() if row["family"] == "baseline"]
    if len(plain) != 1:
        said = "no condition is" if not plain else f"{' and '.join(plain)} are all"
        raise UserError(f"{said} the baseline; name one of {', '.join(result)} with --baseline")
    return result


# ---------------------------------------------------------------- tables


def runs_table(found: list[Checkpoint], measured: pd.DataFrame | None) -> pd.DataFrame:
    """One row per run, with what the CSV knows of it; kappa is 1 where it says nothing."""
    import pandas as pd

    rows = {(one.model, one.condition, one.seed): str(one.path) for one in found}
    table = pd.DataFrame([[*run, path] for run, path in rows.items()], columns=["model", "condition", "seed", "folder"])
    if measured is not None:
        facts = [name for name in measured if name not in ("folder", *MEASURED)]
        keys = [name for name in ("model", "condition", "seed") if name in facts]
        table = table.merge(measured[facts].drop_duplicates(keys), on=keys, how="left")
    kappa = table["kappa"].fillna(1.0) if "kappa" in table else 1.0
    return table.assign(kappa=kappa)


def conditions_table(found: list[Checkpoint], conditions: Mapping[str, dict]) -> pd.DataFrame:
    import pandas as pd

    seeds: dict[tuple, set] = {}
    for one in found:
        seeds.setdefault((one.model, one.condition), set()).add(one.seed)
    rows = []
    for (model, condition), own in seeds.items():
        row = {"model": model, "condition": condition, **conditions[condition], "training_set": condition}
        rows.append({**row, "dropout": math.nan, "weight_decay": math.nan, "synthetic": math.nan, "runs": len(own)})
    return pd.DataFrame(rows)


def evaluation_table(found: list[Checkpoint], measured: pd.DataFrame | None) -> pd.DataFrame:
    """One row per run and test set. Raises `UserError` for a run of the CSV of which there is no checkpoint."""
    import pandas as pd

    columns = ["model", "condition", "seed", *MEASURED[:4]]
    if measured is None or not {"accuracy", "ece"} & set(measured):
        return pd.DataFrame(columns=columns).astype({"accuracy": float, "ece": float})
    known = list(dict.fromkeys((one.model, one.condition, one.seed) for one in found))
    known = pd.DataFrame(known, columns=columns[:3])
    keys = [name for name in columns[:3] if name in measured]
    table = measured.merge(known, on=keys, how="inner", indicator=False)
    lost = measured[~pd.MultiIndex.from_frame(measured[keys]).isin(pd.MultiIndex.from_frame(known[keys]))]
    if len(lost):
        one = lost.iloc[0]
        raise UserError(
            f"--runs: {len(lost)} rows without a checkpoint, the first: {one['condition']}, seed {one['seed']}"
        )
    defaults = {"set": "test", "shift": "none", "accuracy": math.nan, "ece": math.nan}
    table = table.assign(**{name: value for name, value in defaults.items() if name not in table})
    return table[[*columns, *(name for name in MEASURED[4:] if name in table)]]


def depths(layers: Iterable[str], stored_in_order: bool) -> dict[str, int]:
    """Position of every layer from input to output.

    A state dict that PyTorch stored is in that order. A .safetensors file is not: there layers are ordered by name, numbers
    in it by size, with what is called a classifier last.
    """

    def place(layer: str) -> tuple:
        parts = re.split(r"(\d+)", layer)
        return bool(CLASSIFIER.search(layer)), [
            (part.isdigit(), int(part) if part.isdigit() else part) for part in parts
        ]

    ordered = list(dict.fromkeys(layers)) if stored_in_order else sorted(set(layers), key=place)
    return {layer: index for index, layer in enumerate(ordered)}


def _analysed(found: list[Checkpoint], runs: pd.DataFrame, arguments: argparse.Namespace) -> pd.DataFrame:
    """Rows of every checkpoint; the eigenvalues of each run's last one are written for the report.

    runs: with `kappa`, which is that of the whole training: it is taken out of the change up to the last checkpoint alone.
    """
    import pandas as pd

    from diversity_spectra.files import write_npz
    from diversity_spectra.spectra.options import Options
    from diversity_spectra.spectra.table import Reference, analyse

    reference = Reference.open(arguments.reference, arguments.reference_key) if arguments.reference else None
    progress, parts = Progress(f"{len(found)} checkpoints"), []
    order: dict[str, dict[str, int]] = {}
    kappas = runs.set_index(["model", "condition", "seed"])["kappa"].to_dict()
    ordered = sorted(found, key=lambda one: (one.model, one.condition, one.seed, one.step))
    last = {(one.model, one.condition, one.seed): one for one in ordered}
    for index, one in enumerate(ordered):
        run = one.model, one.condition, one.seed
        kappa = kappas[run] if one is last[run] else None
        result = analyse(one.path, reference, Options(key=arguments.key), kappa, arguments.threads)
        rows = result.rows
        if one.model not in order:
            # Those too small to be analysed too: the classifier of a few classes is one.
            matrices = rows.loc[rows["shape"].str.contains("x"), "layer"]
            order[one.model] = depths(matrices, one.path.suffix != ".safetensors")
        identity = {"model": one.model, "condition": one.condition, "seed": one.seed, "step": one.step}
        depth = [order[one.model].get(layer, -1) for layer in rows["layer"]]
        parts.append(rows.assign(depth=depth, **identity))
        write_npz(
            _eigenvalues(arguments.out, one.model, one.condition) / f"seed-{one.seed}/eigenvalues.npz",
            result.eigenvalues,
        )
        progress((index + 1) / len(found))
    progress.close()
    table = pd.concat(parts, ignore_index=True)
    first = ["model", "condition", "seed", "step", "layer", "depth", "matrix"]
    return table[[*first, *(name for name in table if name not in first)]]


def _eigenvalues(out: Path, model: str, condition: str) -> Path:
    return out / "spectra" / model / condition


def _diversity(path: Path | None) -> pd.DataFrame:
    import pandas as pd

    from diversity_spectra.compare.study import INPUTS

    if path is None:
        return pd.DataFrame(columns=INPUTS["diversity"]).astype({name: float for name in ("score", "low", "high")})
    return _read(path, ["condition", "kernel", "order", "label", "score"]).rename(columns={"condition": "training_set"})


def _read(path: Path | None, columns: list[str]) -> pd.DataFrame | None:
    """A table that needs these columns. Raises `UserError` where it lacks one."""
    from diversity_spectra.tables import read_table

    if path is None:
        return None
    table = read_table(path)
    if lacking := [name for name in columns if name not in table]:
        raise UserError(f"{path}: no column {', '.join(lacking)}; it has {', '.join(map(str, table))}")
    return table.astype({"condition": str})


# ---------------------------------------------------------------- pages and figures


def _report(arguments: argparse.Namespace, options: Options, groups: set[tuple[str, str]]) -> None:
    from diversity_spectra.report.command import write
    from diversity_spectra.report.job import WriteReport

    out = arguments.out
    spectra = {f"{model}/{condition}": str(_eigenvalues(out, model, condition)) for model, condition in sorted(groups)}
    experiment = out.resolve().name
    job = WriteReport(
        look={"title": arguments.title}, experiment=experiment, config={"compare": asdict(options)},
        tables=str(out / "tables"), spectra=spectra,
    )  # fmt: skip
    write(job, out)


def _draw_trajectory(table: pd.DataFrame, folder: Path) -> None:
    """Measures of W, mean over layers, against the step: a thin line per run, a thick one per condition."""
    import matplotlib as mpl

    from diversity_spectra.report import style
    from diversity_spectra.report.words import measure

    table = table[table["matrix"] == "W"]
    models = list(dict.fromkeys(table["model"]))
    with mpl.rc_context(style.RC):
        figure, axes = style.canvas(style.WIDTH, 0.6 + 1.9 * len(models), len(models), len(TRACED))
        palette = style.Palette()
        for row, model in zip(axes, models, strict=True):
            own = table[table["model"] == model]
            for ax, name in zip(row, TRACED, strict=True):
                wide = own.pivot_table(index=["family", "condition", "seed", "step"], columns="layer", values=name)
                runs = wide.dropna(axis=1).mean(axis=1)
                for (family, _), lines in runs.groupby(level=["family", "condition"], sort=False):
                    colour = palette.colour(family)
                    for _, line in lines.groupby(level="seed"):
                        ax.plot(line.index.get_level_values("step"), line, color=colour, lw=0.5, alpha=0.4)
                    mean = lines.groupby(level="step").mean()
                    ax.plot(mean.index, mean, color=colour, lw=1.4, marker=style.marker(family), ms=3)
                ax.set_title(measure(name))
            row[0].set_ylabel(model)
        for ax in axes[-1]:
            ax.set_xlabel("step")
        style.family_legend(
            figure, palette, [name for name in FAMILIES if name != "baseline" and name in set(table["family"])]
        )
        style.save(figure, folder, "trajectory", 150)
