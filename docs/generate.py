"""Write docs/reference/ and the generated parts of docs/architecture.md from the code: `make reference`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from diversity_spectra import provenance  # noqa: E402 (this checkout's package)
from diversity_spectra.cli import SUBCOMMANDS  # noqa: E402
from diversity_spectra.columns import TABLES, expand  # noqa: E402
from diversity_spectra.config import experiments, schema  # noqa: E402
from diversity_spectra.planning.steps import Work  # noqa: E402
from diversity_spectra.report.sections import FIGURES  # noqa: E402
from diversity_spectra.stages import kinds  # noqa: E402
from diversity_spectra.sweep.figures import FIGURES as SWEEP_FIGURES  # noqa: E402

# The rule file of each kind of job.
STAGE_OF = {
    rule: path.stem
    for path in (ROOT / "workflow/rules").glob("*.smk")
    for rule in re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
}
MADE = "<!-- Made by `make reference`; do not edit. -->\n"


def pages() -> dict[str, str]:
    """Text of every generated file, by its path in the checkout."""
    architecture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    sweep = {"sweep": "all", "base": "config.yaml", "experiments": {"one": {}}}
    made = Work(experiments.parse(sweep, folder=ROOT))
    for name, part in (("stages", stages(made)), ("packages", packages())):
        architecture = filled(architecture, name, part)
    reference = {"config": configuration(), "tables": tables(), "commands": commands(), "figures": figures()}
    return {f"docs/reference/{name}.md": text for name, text in reference.items()} | {
        "docs/architecture.md": architecture
    }


def filled(text: str, name: str, part: str) -> str:
    """The text with `part` between its markers of this name."""
    start, end = f"<!-- {name}: made by `make reference` -->\n", f"<!-- end of {name} -->\n"
    before, rest = text.split(start)
    return f"{before}{start}{part}{end}{rest.split(end)[1]}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [[*head], *[[escaped(cell) for cell in row] for row in rows]]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escaped(cell: str) -> str:
    """Text for one cell: no break, no end of the cell, and no tag outside of code."""
    parts = cell.replace("|", "\\|").replace("\n", " ").split("`")
    parts[::2] = [re.sub(r"<(?=[A-Za-z/!?])", r"\\<", part) for part in parts[::2]]
    return "`".join(parts)


def codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# ---------------------------------------------------------------- configuration


def configuration() -> str:
    text = f"""# Configuration: every key

{MADE}
[config.yaml](../../config.yaml) is the manual, with the reason of every value; this page is the list. Keys without a
default are required. `diversity-spectra check` says what is wrong with a file, one line per mistake.
"""
    head = ("key", "type", "default", "allowed", "meaning")
    for title, description, node in _models("", schema(), ""):
        rows = [
            (f"`{key}`", _type(child), _default(child), _allowed(child), child["description"])
            for key, child in node["properties"].items()
        ]
        text += f"\n## {title}\n\n{description}\n\n{table(head, rows)}"
    return text


def _models(path: str, node: dict, kind: str) -> Iterator[tuple[str, str, dict]]:
    """Every mapping of the configuration, outer ones first: (heading, description, schema)."""
    title = f"`{path}`" if path else "Top level"
    yield f"{title} with `kind: {kind}`" if kind else title, node["description"], node
    for key, child in node["properties"].items():
        for place, inner in _mappings(f"{path}.{key}" if path else key, child):
            yield from _models(place, inner, inner["properties"].get("kind", {}).get("const", ""))


def _mappings(path: str, node: dict) -> Iterator[tuple[str, dict]]:
    """Schemas of the mappings that may stand at a key or in its list."""
    if "$ref" in node:
        yield path, schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    for member in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _mappings(path, member)
    if "items" in node:
        yield from _mappings(f"{path}[]", node["items"])


def _type(node: dict | bool) -> str:
    if node is True:
        return "value"
    if "anyOf" in node:
        return " or ".join(_type(member) for member in node["anyOf"])
    if "$ref" in node or "oneOf" in node:
        return "mapping"
    if node["type"] == "array":
        return f"list of {_type(node['items'])}s"
    if node["type"] == "object":
        values = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
        return f"mapping of names to {_type(values[0])}s"
    return node["type"]


def _default(node: dict) -> str:
    if "default" not in node:
        return "required"
    if "$ref" in node:
        return "see there"
    return f"`{json.dumps(node['default'])}`"


LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
PATTERNS = {
    "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$": "letters, digits and `_ . -`, up to 63, no sign first",
    r"^[^\x00-\x1f]+$": "a path",
    r"^(auto|cpu|cuda(:\d+)?)$": "`auto`, `cpu`, `cuda`, `cuda:N`",
    "^[0-9a-f]{40}$": "40 hexadecimal digits",
}


def _allowed(node: dict) -> str:
    if "anyOf" in node:
        return ", or ".join(filter(None, map(_allowed, node["anyOf"])))
    if "const" in node or "enum" in node:
        return codes(map(str, node.get("enum", [node.get("const")])))
    if "oneOf" in node:
        return "a `kind` below"
    limits = [f"{sign} {node[name]}" for name, sign in LIMITS.items() if name in node]
    limits += [PATTERNS.get(node["pattern"], f"`{node['pattern']}`")] if "pattern" in node else []
    limits += ["not empty"] if node.get("minItems") or (node.get("minLength") and "pattern" not in node) else []
    each = _allowed(node["items"]) if "items" in node else ""
    return ", ".join(limits + ([f"each {each}"] if each else []))


# ---------------------------------------------------------------- tables


def tables() -> str:
    text = f"""# Tables: every column

{MADE}
`results/<experiment>/tables/` holds each table as Parquet, and as CSV where it has fewer than 100,000 rows. Intervals
and tests are at the level `compare.level` unless said otherwise; *noise sd* is the standard deviation from run to run.
What is not known is empty. Derivations: [spectra](../spectra.md), [comparison](../method.md).

`results/<sweep>/tables/` holds the tables of all experiments of a [sweep](../sweeps.md) together, with a leading column
`experiment`, except `spectra` and `shift`; `gains` is there alone.

Beside tables that `compare`, `collect` or `import-weightwatcher` wrote, `options.json` holds the settings of their
comparison, as `spec.json` does beside those of the workflow: `report --tables` and `sweep --tables` read them.

In the table `spectra`, W is N x M with N >= M, s are its singular values, λ = s² the eigenvalues of WᵀW, n their number
in the row and n_t that of the tail. *In `weightwatcher`*: how a column differs in that convention.
"""
    for name, made in TABLES.items():
        rows = []
        for column, about in made.columns.items():
            meaning = about.meaning
            meaning += f". *In `weightwatcher`*: {about.weightwatcher}" if about.weightwatcher else ""
            meaning += f". *Only with* {about.when}" if about.when else ""
            rows.append((_names(column), about.unit, meaning, f"`{about.source}`"))
        text += f"\n## {name}\n\nOne row: {made.rows}.\n\n"
        text += table(("column", "unit", "meaning", "computed by"), rows)
    return text


def _names(column: str) -> str:
    base = column.removesuffix("{,_low,_high}")
    return codes(expand(base)) + ("; with `_low`, `_high`" if base != column else "")


# ---------------------------------------------------------------- commands


def commands() -> str:
    text = f"""# Commands

{MADE}
Every rule of the workflow runs one of these commands, and each works alone: any line that `snakemake -np` prints can be
pasted into a terminal. The exit code is 0, 2 where the user's input is at fault (one line says what), else 1.

In bash this line completes the subcommands:

```sh
complete -o default -W "{" ".join(SUBCOMMANDS)}" diversity-spectra
```
"""
    for name, (module, summary) in SUBCOMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"diversity-spectra {name}", description=summary)
        importlib.import_module(f"diversity_spectra.{module}").configure(parser)
        text += _command("##", parser, summary)
    return text


def _command(level: str, parser: argparse.ArgumentParser, summary: str, known: str = "") -> str:
    steps = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    rows = [
        (_argument(action), "yes" if action.required and action.nargs != "*" else "", _meaning(action))
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    text = f"\n{level} {parser.prog}\n\n{summary[0].upper()}{summary[1:]}.\n"
    text += f"\n{table(('argument', 'required', 'meaning'), rows)}" if rows else ""
    epilog = (parser.epilog or "").strip()
    text += f"\n```text\n{epilog}\n```\n" if epilog and epilog != known else ""
    for action in steps:
        summaries = {choice.dest: choice.help for choice in action._choices_actions}
        for name, step in action.choices.items():
            text += _command(f"{level}#", step, summaries[name], epilog)
    return text


def _meaning(action: argparse.Action) -> str:
    text = (action.help or "") % vars(action)
    return f"{text} (default: {action.default})".strip() if action.choices and action.default else text


def _argument(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else str(value)
    value = "" if action.nargs == 0 else f"{value} ..." if action.nargs in ("+", "*") else value
    return f"`{' '.join([*action.option_strings[-1:], value]).strip()}`"


# ---------------------------------------------------------------- figures


def figures() -> str:
    text = f"""# Figures

{MADE}
`results/<experiment>/figures/` holds each figure as SVG and PNG; figures of a model are named `<figure>-<model>`. The
report shows all of them. `spec.json` beside the report lists them with their captions.
"""
    head = ("figure", "title", "one for", "shows")
    scopes = [("each model" if figure.per_model else "the experiment", figure) for figure in FIGURES]
    scopes += [("a sweep", figure) for figure in SWEEP_FIGURES]
    rows = [(f"`{figure.kind}`", figure.title, scope, figure.about) for scope, figure in scopes]
    return f"{text}\n{table(head, rows)}"


# ---------------------------------------------------------------- architecture


def stages(made: Work) -> str:
    """Which rule reads the results of which, by rule file."""
    makers = {job.out: job.kind for job in made.jobs.values()}
    edges = set()
    for job in made.jobs.values():
        read = re.findall(r"results/cache/[^\"]*?-[0-9a-f]{12}(?=[/\"])", json.dumps(job.inputs))
        edges |= {(makers[folder], job.kind) for folder in read}
    lines = ["flowchart LR"]
    for stage in dict.fromkeys(STAGE_OF[kind] for kind in kinds()):
        lines.append(f"  subgraph {stage}_smk [{stage}.smk]")
        lines += [f"    {kind}" for kind in kinds() if STAGE_OF[kind] == stage]
        lines.append("  end")
    lines += [f"  {source} --> {kind}" for source, kind in sorted(edges)]
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def packages() -> str:
    """Modules of every stage's package, and what they import from the rest of the package."""
    rows = []
    for folder in sorted(path for path in provenance.PACKAGE.iterdir() if (path / "__init__.py").exists()):
        modules = sorted(path for path in folder.rglob("*.py"))
        own = [".".join(path.relative_to(folder).with_suffix("").parts) for path in modules if path.stem != "__init__"]
        used = {name.split(".")[0] for path in modules for name in provenance._module(path)[0]} - {""}
        rows.append((f"`{folder.name}`", ", ".join(own), ", ".join(sorted(used - {folder.name, "__version__"}))))
    return table(("package", "modules", "imports from the rest"), rows)


def main() -> None:
    os.chdir(ROOT)
    for path, text in pages().items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
